//! SHA-256 and Base64 by the processor's own instructions.
//!
//! The only file of this crate with `unsafe` in it: `std::arch` has no other way to load 16 bytes into a register,
//! nor to call a function that needs instructions which not every processor has. Owns no format: what goes in are
//! whole padded blocks and letters of known number. Each way has its portable twin, in `sha.rs` and `base64.rs`, and
//! the tests there compare both.
//!
//! SHA-256 takes two messages side by side: one chain of `sha256rnds2`, each waiting for the one before it, leaves
//! the unit idle half of the time, so that a second message costs next to nothing.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, _MM_HINT_T0, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16,
    _mm_cvtsi128_si64, _mm_extract_epi64, _mm_loadu_si128, _mm_prefetch, _mm_set_epi32,
    _mm_set_epi64x, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_srli_si128, _mm_storeu_si128, _mm256_add_epi8,
    _mm256_and_si256, _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_castsi256_si128,
    _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_or_si256, _mm256_permutevar8x32_epi32,
    _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setr_epi32,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi16,
    _mm256_srli_epi32, _mm256_storeu_si256, _mm256_sub_epi8, _mm256_subs_epu8, _mm256_testz_si256,
};

use crate::{
    base64::last_letters,
    digest::{Hash, Link, TAG_LINK},
    sha::{Block, K, START},
};

/// A processor that has the instructions; there is no other way to one.
#[derive(Clone, Copy)]
pub(crate) struct ShaNi(());

impl ShaNi {
    /// Asks the processor; the answer is kept by the standard library.
    pub(crate) fn detect() -> Option<ShaNi> {
        let there = is_x86_feature_detected!("sha") && is_x86_feature_detected!("avx");
        there.then_some(ShaNi(()))
    }

    /// Hashes padded messages, any number of blocks each. `put` gets the place of each in the list and its hash,
    /// in no particular order. `soon` is asked for meanwhile.
    pub(crate) fn each<'a>(
        self,
        messages: impl Iterator<Item = &'a [Block]>,
        soon: &[u8],
        put: impl FnMut(usize, Hash),
    ) {
        // SAFETY: a `ShaNi` exists only where the processor has sha and avx.
        unsafe { each(messages, soon, put) }
    }

    /// Hashes two links side by side. Their words go straight into registers.
    #[inline]
    pub(crate) fn link_pair(self, one: &Link<'_>, two: &Link<'_>) -> [Hash; 2] {
        // SAFETY: a `ShaNi` exists only where the processor has sha and avx.
        unsafe { link_pair(one, two) }
    }

    /// Hashes a padded payload, and a link with its digest in place of the one that it names.
    pub(crate) fn record(self, payload: &[Block], link: &Link<'_>) -> Hash {
        // SAFETY: a `ShaNi` exists only where the processor has sha and avx.
        unsafe { record(payload, link) }
    }
}

/// A text of ASCII; `None` when another letter is in it. `String::from_utf8` looks at the letters more slowly.
pub(crate) fn ascii(letters: Vec<u8>) -> Option<String> {
    if !letters.is_ascii() {
        return None;
    }
    // SAFETY: what is ASCII is UTF-8.
    Some(unsafe { String::from_utf8_unchecked(letters) })
}

/// Asks for what will be needed soon. Changes nothing but the time that it takes.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    let first = std::ptr::from_ref(value).cast::<i8>();
    // SAFETY: a prefetch reads and writes nothing, wherever it points; both ends lie in the value.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(first);
        if size_of::<T>() > 64 {
            _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(size_of::<T>() - 1));
        }
    }
}

/// The two halves of SHA-256's state as the instructions want them: words a, b, e, f and c, d, g, h.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

/// A message that is being hashed.
struct Lane<'a> {
    place: usize,
    left: &'a [Block],
    state: State,
}

#[target_feature(enable = "sha,avx")]
fn each<'a>(
    messages: impl Iterator<Item = &'a [Block]>,
    mut soon: &[u8],
    mut put: impl FnMut(usize, Hash),
) {
    let mut waiting = messages.enumerate();
    let mut begin = || {
        waiting.next().map(|(place, left)| Lane {
            place,
            left,
            state: start(),
        })
    };
    let (mut one, mut two) = (begin(), begin());
    while let Some(a) = &mut one {
        let Some(b) = &mut two else {
            for block in a.left {
                a.state = one_block(a.state, block);
            }
            put(a.place, digest(a.state));
            // The second lane is empty only when nothing waits.
            return;
        };
        let count = a.left.len().min(b.left.len());
        let ((ours, a_left), (theirs, b_left)) = (a.left.split_at(count), b.left.split_at(count));
        for (our, their) in ours.iter().zip(theirs) {
            soon = ask_for(soon);
            (a.state, b.state) = two_blocks((a.state, b.state), words(our), words(their));
        }
        (a.left, b.left) = (a_left, b_left);
        if b.left.is_empty() {
            put(b.place, digest(b.state));
            two = begin();
        }
        if a.left.is_empty() {
            put(a.place, digest(a.state));
            one = begin().or_else(|| two.take());
        }
    }
}

/// Asks for what will be read while two blocks are hashed, and gives what lies behind it. Base64 is a third longer than
/// what it spells, and some is around it.
#[inline]
fn ask_for(soon: &[u8]) -> &[u8] {
    let Some((lines, behind)) = soon.split_first_chunk::<192>() else {
        return &[];
    };
    for line in lines.as_chunks::<64>().0 {
        prefetch(line);
    }
    behind
}

/// One block of each.
#[inline]
#[target_feature(enable = "sha,avx")]
fn two_blocks(
    (mut a, mut b): (State, State),
    mut v: [__m128i; 4],
    mut w: [__m128i; 4],
) -> (State, State) {
    let (a_before, b_before) = (a, b);
    for group in 0..4 {
        (v, w) = (turn(v, group, &mut a), turn(w, group, &mut b));
    }
    for group in 4..16 {
        v = schedule(v);
        w = schedule(w);
        (v, w) = (turn(v, group, &mut a), turn(w, group, &mut b));
    }
    (add(a, a_before), add(b, b_before))
}

#[target_feature(enable = "sha,avx")]
fn link_pair(one: &Link<'_>, two: &Link<'_>) -> [Hash; 2] {
    let ([a_first, a_second], [b_first, b_second]) = (link_words(one), link_words(two));
    let states = two_blocks((start(), start()), a_first, b_first);
    let (a, b) = two_blocks(states, a_second, b_second);
    [digest(a), digest(b)]
}

#[target_feature(enable = "sha,avx")]
fn record(payload: &[Block], link: &Link<'_>) -> Hash {
    // A link's first twelve rounds know nothing of the digest: they are done beside the payload's, for nothing.
    let [[tag, previous_low, previous_high, _], [_, rest @ ..]] = link_words(link);
    let mut after = start();
    let mut w = [tag, previous_low, previous_high, tag];
    for group in 0..3 {
        w = turn(w, group, &mut after);
    }
    let mut state = start();
    for block in payload {
        state = one_block(state, block);
    }
    let [d0, d1] = halves(&digest(state));
    let [_, tag, previous_low, previous_high] = w;
    let w = turn([d0, tag, previous_low, previous_high], 3, &mut after);
    let first = add(scheduled_rounds(w, after), start());
    let [numbers, letters, size] = rest;
    digest(one_block_of(first, [d1, numbers, letters, size]))
}

/// The two blocks that `digest::link_blocks` spells.
#[inline]
#[target_feature(enable = "sha,avx")]
fn link_words(link: &Link<'_>) -> [[__m128i; 4]; 2] {
    let [p0, p1] = halves(link.previous);
    let [d0, d1] = halves(link.digest);
    let (seq, t, len) = (link.seq, link.t_us, link.len);
    let kind = u32::from(link.kind.byte()) << 24;
    let numbers = [seq >> 32, seq, t >> 32, t].map(|word| word as u32);
    let rest = [
        kind | link.session >> 16,
        link.session << 16 | len >> 16,
        len << 16 | 0x8000,
        0,
    ];
    [
        [bytes(TAG_LINK), p0, p1, d0],
        [d1, four(numbers), four(rest), four([0, 0, 0, 106 * 8])],
    ]
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn four([a, b, c, d]: [u32; 4]) -> __m128i {
    _mm_set_epi32(d as i32, c as i32, b as i32, a as i32)
}

/// 16 bytes as four words.
#[inline]
#[target_feature(enable = "sha,avx")]
fn bytes(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: there are 16 bytes to load, at any alignment.
    swap(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn halves(hash: &Hash) -> [__m128i; 2] {
    let from = hash.as_ptr().cast::<__m128i>();
    // SAFETY: a hash has 32 bytes, so two unaligned loads of 16 bytes stay inside it.
    unsafe {
        [
            swap(_mm_loadu_si128(from)),
            swap(_mm_loadu_si128(from.add(1))),
        ]
    }
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn one_block(state: State, block: &Block) -> State {
    one_block_of(state, words(block))
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn one_block_of(before: State, mut w: [__m128i; 4]) -> State {
    let mut state = before;
    for group in 0..4 {
        w = turn(w, group, &mut state);
    }
    add(scheduled_rounds(w, state), before)
}

/// The last 48 rounds, whose words follow from the first 16.
#[inline]
#[target_feature(enable = "sha,avx")]
fn scheduled_rounds(mut w: [__m128i; 4], mut state: State) -> State {
    for group in 4..16 {
        w = turn(schedule(w), group, &mut state);
    }
    state
}

/// Four rounds with the words in front, which then go to the end.
#[inline]
#[target_feature(enable = "sha,avx")]
fn turn([w0, w1, w2, w3]: [__m128i; 4], group: usize, state: &mut State) -> [__m128i; 4] {
    let [k0, k1, k2, k3] = K.as_chunks::<4>().0.get(group).copied().unwrap_or_default();
    let k = _mm_set_epi32(k3 as i32, k2 as i32, k1 as i32, k0 as i32);
    let low = _mm_add_epi32(w0, k);
    state.cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, low);
    let high = _mm_shuffle_epi32(low, 0x0e);
    state.abef = _mm_sha256rnds2_epu32(state.abef, state.cdgh, high);
    [w1, w2, w3, w0]
}

/// The next four words of the message schedule take the place of the oldest.
#[inline]
#[target_feature(enable = "sha,avx")]
fn schedule([w0, w1, w2, w3]: [__m128i; 4]) -> [__m128i; 4] {
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
    [_mm_sha256msg2_epu32(sum, w3), w1, w2, w3]
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn add(one: State, two: State) -> State {
    State {
        abef: _mm_add_epi32(one.abef, two.abef),
        cdgh: _mm_add_epi32(one.cdgh, two.cdgh),
    }
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn start() -> State {
    let [a, b, c, d, e, f, g, h] = START.map(|word| word as i32);
    State {
        abef: _mm_set_epi32(a, b, e, f),
        cdgh: _mm_set_epi32(c, d, g, h),
    }
}

/// Reverses the bytes of each word: SHA-256 is big-endian.
#[inline]
#[target_feature(enable = "sha,avx")]
fn swap(words: __m128i) -> __m128i {
    let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    _mm_shuffle_epi8(words, order)
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn words(block: &Block) -> [__m128i; 4] {
    let from = block.as_ptr().cast::<__m128i>();
    // SAFETY: a block has 64 bytes, so four unaligned loads of 16 bytes stay inside it.
    unsafe {
        [
            swap(_mm_loadu_si128(from)),
            swap(_mm_loadu_si128(from.add(1))),
            swap(_mm_loadu_si128(from.add(2))),
            swap(_mm_loadu_si128(from.add(3))),
        ]
    }
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn digest(state: State) -> Hash {
    let feba = _mm_shuffle_epi32(state.abef, 0x1b);
    let dchg = _mm_shuffle_epi32(state.cdgh, 0xb1);
    let mut hash = [0; 32];
    let to = hash.as_mut_ptr().cast::<__m128i>();
    // SAFETY: a hash has 32 bytes, so two unaligned stores of 16 bytes stay inside it.
    unsafe {
        _mm_storeu_si128(to, swap(_mm_blend_epi16(feba, dchg, 0xf0)));
        _mm_storeu_si128(to.add(1), swap(_mm_alignr_epi8(dchg, feba, 8)));
    }
    hash
}

/// A processor that has AVX2; there is no other way to one.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Asks the processor; the answer is kept by the standard library.
    #[inline]
    pub(crate) fn detect() -> Option<Avx2> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }

    /// 32 bytes of 44 letters with one pad, and 16 bytes of 24 letters with two. Both are written where they are
    /// wanted: what goes through a register's copy in memory waits for it.
    #[inline]
    pub(crate) fn decode_heads(
        self,
        (long, short): (&[u8; 44], &[u8; 24]),
        hash: &mut Hash,
        salt: &mut [u8; 16],
    ) -> bool {
        // SAFETY: an `Avx2` exists only where the processor has AVX2.
        unsafe { decode_heads(long, short, hash, salt) }
    }

    /// Decodes `text`, whose last `pads` letters are pads, to the beginning of `space`. Behind the bytes that the
    /// text spells some may become zero, never anything else.
    #[inline]
    pub(crate) fn decode(self, text: &[u8], pads: usize, space: &mut [u8]) -> Option<()> {
        // SAFETY: an `Avx2` exists only where the processor has AVX2.
        unsafe { decode(text, pads, space) }
    }

    /// Appends the letters of `bytes`.
    #[inline]
    pub(crate) fn encode(self, bytes: &[u8], text: &mut Vec<u8>) {
        // SAFETY: an `Avx2` exists only where the processor has AVX2.
        unsafe { encode(bytes, text) }
    }
}

#[target_feature(enable = "avx2")]
fn decode_heads(long: &[u8; 44], short: &[u8; 24], hash: &mut Hash, salt: &mut [u8; 16]) -> bool {
    let ([.., b'='], [.., b'=', b'=']) = (long, short) else {
        return false;
    };
    let mut bad = _mm256_setzero_si256();
    // Letters 0 to 31 spell bytes 0 to 23; letters 12 to 43, the last of them a zero, bytes 9 to 32.
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _] = long;
    let [_, _, _, _, _, _, _, _, _, _, _, _, last @ ..] = long;
    let zero = _mm256_set1_epi8(b'A' as i8);
    let [_, pad, _] = &PADS;
    let first = triples(load(first), &mut bad);
    let last = triples(_mm256_blendv_epi8(load(last), zero, load(pad)), &mut bad);
    // 24 letters, and eight that spell zeros.
    let [begin @ .., _, _, _, _, _, _, _, _] = short;
    let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, end @ ..] = short;
    let letters = _mm256_set_m128i(half(end), load_half(begin));
    let rest = triples(
        _mm256_blendv_epi8(letters, zero, load(&BEHIND_22)),
        &mut bad,
    );
    // Bytes 15 to 22 of the second piece are the hash's last eight, byte 23 is what the pad left over. Whole 16 bytes
    // are stored, because they are loaded as such again at once.
    let ([_, _, third, _], [_, low, high, _]) = (words_of(first), words_of(last));
    let tail = (low >> 56 | high << 8) as i64;
    let [_, _, over, _] = words_of(rest);
    let to = hash.as_mut_ptr().cast::<__m128i>();
    // SAFETY: a hash has 32 bytes and a salt 16, so three unaligned stores of 16 bytes stay inside them.
    unsafe {
        _mm_storeu_si128(to, _mm256_castsi256_si128(first));
        _mm_storeu_si128(to.add(1), _mm_set_epi64x(tail, third as i64));
        _mm_storeu_si128(salt.as_mut_ptr().cast(), _mm256_castsi256_si128(rest));
    }
    high >> 56 == 0 && over == 0 && is_good(bad)
}

#[target_feature(enable = "avx2")]
fn decode(text: &[u8], pads: usize, space: &mut [u8]) -> Option<()> {
    let mut bad = _mm256_setzero_si256();
    let (mut letters, mut room) = (text, &mut *space);
    // The last 32 letters are left: they may hold pads.
    while letters.len() > 32 {
        let bytes = triples(load(letters.first_chunk()?), &mut bad);
        store_24(bytes, room.first_chunk_mut()?);
        letters = letters.get(32..)?;
        room = room.get_mut(24..)?;
    }
    // They are decoded again where some of them were decoded already, with zeros for pads.
    let zero = _mm256_set1_epi8(b'A' as i8);
    let (letters, place) = match text.last_chunk::<32>() {
        Some(last) => {
            let pads = load(PADS.get(pads)?);
            let letters = _mm256_blendv_epi8(load(last), zero, pads);
            (letters, (text.len() - 32) / 4 * 3)
        }
        None => {
            let mut chunk = [b'A'; 32];
            let own = text.get(..text.len().checked_sub(pads)?)?;
            chunk.get_mut(..own.len())?.copy_from_slice(own);
            (load(&chunk), 0)
        }
    };
    let end = text.len().min(32);
    let last = triples(letters, &mut bad);
    if !is_good(bad) {
        return None;
    }
    // What the pads stand for must be zero.
    let spelled = (end / 4 * 3).checked_sub(pads)?;
    match space.get_mut(place..)?.first_chunk_mut::<24>() {
        Some(to) => {
            store_24(last, to);
            let over = to.get(spelled..)?;
            over.iter().all(|byte| *byte == 0).then_some(())
        }
        None => {
            let last = store(last);
            let (bytes, over) = last.split_at_checked(spelled)?;
            space
                .get_mut(place..place + spelled)?
                .copy_from_slice(bytes);
            over.iter().all(|byte| *byte == 0).then_some(())
        }
    }
}

#[target_feature(enable = "avx2")]
fn encode(bytes: &[u8], text: &mut Vec<u8>) {
    let triples = bytes.len() / 3;
    text.reserve(triples * 4 + 32);
    let (whole, rest) = bytes.split_at(triples * 3);
    let begin = text.len();
    // SAFETY: whole 32 bytes are stored, the first of them at one of the `triples * 4` places for which 32 more were
    // reserved, or right behind the text. What the new length covers was stored to: 32 letters of each chunk, the
    // last ones up to the last triple.
    unsafe {
        let to = text.as_mut_ptr().add(begin);
        for (place, chunk) in whole.as_chunks::<24>().0.iter().enumerate() {
            _mm256_storeu_si256(to.add(place * 32).cast(), quads(chunk));
        }
        // The last triples are spelled again where some of them were spelled already.
        match whole.last_chunk() {
            Some(last) => _mm256_storeu_si256(to.add(triples * 4 - 32).cast(), quads(last)),
            None => _mm256_storeu_si256(to.cast(), few_quads(bytes)),
        }
        text.set_len(begin + triples * 4);
    }
    if let Some(last) = last_letters(rest) {
        text.extend_from_slice(&last);
    }
}

/// 32 letters of fewer than 24 bytes and zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn few_quads(bytes: &[u8]) -> __m256i {
    // A salt. What is copied in pieces cannot be loaded whole before all of them have left the processor's queue.
    if let Ok(salt) = bytes.try_into() {
        let low = load_half(salt);
        return quads_of(low, _mm_srli_si128::<8>(low));
    }
    let mut chunk = [0; 24];
    for (to, byte) in chunk.iter_mut().zip(bytes) {
        *to = *byte;
    }
    quads(&chunk)
}

#[inline]
#[target_feature(enable = "avx2")]
fn quads(bytes: &[u8; 24]) -> __m256i {
    let [low @ .., _, _, _, _, _, _, _, _] = bytes;
    let [_, _, _, _, _, _, _, _, high @ ..] = bytes;
    quads_of(load_half(low), load_half(high))
}

/// 32 letters of 24 bytes, of which both halves hold the eight in the middle.
#[inline]
#[target_feature(enable = "avx2")]
fn quads_of(low: __m128i, high: __m128i) -> __m256i {
    // Each three bytes become a number of 24 bits. The upper half's begin with its fifth byte.
    let order = _mm256_set_m128i(
        load_half(&[
            6, 5, 4, FREE, 9, 8, 7, FREE, 12, 11, 10, FREE, 15, 14, 13, FREE,
        ]),
        load_half(&[2, 1, 0, FREE, 5, 4, 3, FREE, 8, 7, 6, FREE, 11, 10, 9, FREE]),
    );
    let triples = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), order);
    // Its highest six bits are the first letter, in the lowest byte.
    let masked = |moved, mask| _mm256_and_si256(moved, _mm256_set1_epi32(mask));
    let first = _mm256_srli_epi32(triples, 18);
    let second = masked(_mm256_srli_epi32(triples, 4), 0x3f00);
    let third = masked(_mm256_slli_epi32(triples, 10), 0x3f_0000);
    let fourth = masked(_mm256_slli_epi32(triples, 24), 0x3f00_0000);
    let values = _mm256_or_si256(
        _mm256_or_si256(first, second),
        _mm256_or_si256(third, fourth),
    );
    // Values from 52 on have a shift of their own each; 0 to 25 and 26 to 51 are told apart.
    let late = _mm256_subs_epu8(values, _mm256_set1_epi8(51));
    let small = _mm256_cmpgt_epi8(values, _mm256_set1_epi8(25));
    let shift = _mm256_shuffle_epi8(both(LETTER), _mm256_sub_epi8(late, small));
    _mm256_add_epi8(values, shift)
}

/// What turns a value into its letter: capitals, small letters, ten digits, `+` and `/`.
const LETTER: [u8; 16] = {
    let mut shift = [b'0'.wrapping_sub(52); 16];
    let [capital, small, .., plus, slash, _, _] = &mut shift;
    *capital = b'A';
    *small = b'a' - 26;
    *plus = b'+'.wrapping_sub(62);
    *slash = b'/'.wrapping_sub(63);
    shift
};

/// By the low half of a letter: the classes of high halves with which it is no letter of the alphabet.
const WRONG: [u8; 16] = {
    let mut wrong = [0; 16];
    let mut letter = 0;
    while letter < 256 {
        let good = matches!(letter as u8, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/');
        if !good {
            #[allow(clippy::indexing_slicing)]
            {
                wrong[letter & 15] |= CLASS[letter >> 4];
            }
        }
        letter += 1;
    }
    wrong
};
/// By the high half: its class. Capitals and small letters have the same gaps.
const CLASS: [u8; 16] = [16, 16, 1, 2, 4, 8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16];
/// By the high half: what turns a letter into its value. `/` goes by 1 and not by 2, where `+` is.
#[rustfmt::skip]
const SHIFT: [i8; 16] = [0, 63 - 0x2f, 62 - 0x2b, 52 - 0x30, -65, -65, 26 - 97, 26 - 97, 0, 0, 0, 0, 0, 0, 0, 0];

/// Where a byte is moved from that becomes zero.
const FREE: u8 = 0x80;

/// 24 bytes of 32 letters, then zeros. What is no letter leaves a bit in `bad`.
#[inline]
#[target_feature(enable = "avx2")]
fn triples(letters: __m256i, bad: &mut __m256i) -> __m256i {
    let half = _mm256_set1_epi8(0x0f);
    let high = _mm256_and_si256(_mm256_srli_epi16(letters, 4), half);
    let low = _mm256_and_si256(letters, half);
    let wrong = _mm256_shuffle_epi8(both(WRONG), low);
    let class = _mm256_shuffle_epi8(both(CLASS), high);
    *bad = _mm256_or_si256(*bad, _mm256_and_si256(wrong, class));
    let slash = _mm256_cmpeq_epi8(letters, _mm256_set1_epi8(0x2f));
    let shift = _mm256_shuffle_epi8(both(SHIFT.map(|by| by as u8)), _mm256_add_epi8(high, slash));
    let values = _mm256_add_epi8(letters, shift);
    // Neighbours are joined twice: 6 bits to 12, 12 to 24.
    let pairs = _mm256_maddubs_epi16(values, _mm256_set1_epi16(0x0140));
    let quads = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_1000));
    let order = [
        2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, FREE, FREE, FREE, FREE,
    ];
    let packed = _mm256_shuffle_epi8(quads, both(order));
    _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7))
}

#[inline]
#[target_feature(enable = "avx2")]
fn is_good(bad: __m256i) -> bool {
    _mm256_testz_si256(bad, bad) == 1
}

/// Marks the last letters, none to two of them.
const PADS: [[u8; 32]; 3] = {
    let mut marks = [[0; 32]; 3];
    marks[1][31] = 0x80;
    marks[2][31] = 0x80;
    marks[2][30] = 0x80;
    marks
};
/// Marks the last two of 24 letters and what stands behind them.
const BEHIND_22: [u8; 32] = {
    let mut marks = [0; 32];
    let mut place = 22;
    while place < 32 {
        #[allow(clippy::indexing_slicing)]
        {
            marks[place] = 0x80;
        }
        place += 1;
    }
    marks
};

/// The same 16 bytes in both halves.
#[inline]
#[target_feature(enable = "avx2")]
fn both(bytes: [u8; 16]) -> __m256i {
    // SAFETY: there are 16 bytes to load, at any alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: there are 32 bytes to load, at any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: there are 16 bytes to load, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Eight bytes, then zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn half(bytes: &[u8; 8]) -> __m128i {
    _mm_set_epi64x(0, i64::from_le_bytes(*bytes))
}

/// A register as four numbers whose lowest bytes come first.
#[inline]
#[target_feature(enable = "avx2")]
fn words_of(register: __m256i) -> [u64; 4] {
    let (low, high) = (
        _mm256_castsi256_si128(register),
        _mm256_extracti128_si256(register, 1),
    );
    [
        _mm_cvtsi128_si64(low) as u64,
        _mm_extract_epi64(low, 1) as u64,
        _mm_cvtsi128_si64(high) as u64,
        _mm_extract_epi64(high, 1) as u64,
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_24(register: __m256i, to: &mut [u8; 24]) {
    let high = _mm_cvtsi128_si64(_mm256_extracti128_si256(register, 1));
    if let Some(last) = to.last_chunk_mut::<8>() {
        *last = high.to_le_bytes();
    }
    // SAFETY: 16 of the 24 bytes are stored to, at any alignment.
    unsafe {
        _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(register));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(register: __m256i) -> [u8; 32] {
    let mut bytes = [0; 32];
    // SAFETY: there are 32 bytes to store to, at any alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), register) }
    bytes
}
