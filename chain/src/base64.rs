//! Base64 in its one spelling: standard alphabet, padding, trailing bits zero. Lines are decoded by `vector.rs` where
//! the processor has the instructions.

use base64_simd::{AsOut as _, STANDARD};

const BAD: u8 = 0x80;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const VALUES: [u8; 256] = {
    let mut values = [BAD; 256];
    let mut rest: &[u8] = LETTERS;
    let mut value = 0;
    while let Some((letter, tail)) = rest.split_first() {
        #[allow(clippy::indexing_slicing)]
        {
            values[*letter as usize] = value;
        }
        value += 1;
        rest = tail;
    }
    values
};

/// Four letters as 24 bits; `BAD` stands in the second value when one of them is none.
fn quad(letters: &[u8; 4]) -> (u32, u8) {
    let [a, b, c, d] =
        letters.map(|letter| VALUES.get(usize::from(letter)).copied().unwrap_or(BAD));
    let bits = u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
    (bits, a | b | c | d)
}

/// 32 bytes of 44 letters, the last of them a pad.
pub(crate) fn decode_32(text: &[u8; 44]) -> Option<[u8; 32]> {
    let mut out = [0; 33];
    let bad = triples(text, &mut out, 1)?;
    let (bytes, zero) = out.split_first_chunk::<32>()?;
    (bad < BAD && zero == [0]).then_some(*bytes)
}

/// 16 bytes of 24 letters, the last two of them pads.
pub(crate) fn decode_16(text: &[u8; 24]) -> Option<[u8; 16]> {
    let mut out = [0; 18];
    let bad = triples(text, &mut out, 2)?;
    let (bytes, zero) = out.split_first_chunk::<16>()?;
    (bad < BAD && zero == [0, 0]).then_some(*bytes)
}

/// Decodes whole triples; the last `pads` letters must be pads and count as zero.
fn triples(text: &[u8], out: &mut [u8], pads: usize) -> Option<u8> {
    let (quads, _) = text.as_chunks::<4>();
    let (last, quads) = quads.split_last()?;
    let (triples, _) = out.as_chunks_mut::<3>();
    let (end, triples) = triples.split_last_mut()?;
    let mut bad = 0;
    for (letters, bytes) in quads.iter().zip(triples) {
        let (bits, wrong) = quad(letters);
        bad |= wrong;
        let [_, a, b, c] = bits.to_be_bytes();
        *bytes = [a, b, c];
    }
    let mut last = *last;
    for letter in last.iter_mut().rev().take(pads) {
        if *letter != b'=' {
            return None;
        }
        *letter = b'A';
    }
    let (bits, wrong) = quad(&last);
    let [_, a, b, c] = bits.to_be_bytes();
    *end = [a, b, c];
    Some(bad | wrong)
}

/// How many bytes this text spells if it is good; `None` for a length that no text has.
pub(crate) fn decoded_len(text: &[u8]) -> Option<usize> {
    let (quads, []) = text.as_chunks::<4>() else {
        return None;
    };
    let pads = match quads.last() {
        Some([.., b'=', b'=']) => 2,
        Some([.., b'=']) => 1,
        _ => 0,
    };
    (quads.len() * 3).checked_sub(pads)
}

/// Decodes to the first [`decoded_len`] bytes of `space`. Some behind them may become zero.
#[inline]
pub(crate) fn decode_into(text: &[u8], length: usize, space: &mut [u8]) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = crate::vector::Avx2::detect() {
        let pads = (text.len() / 4 * 3).checked_sub(length)?;
        return instructions.decode(text, pads, space);
    }
    decode_portably(text, length, space)
}

/// The portable twin.
fn decode_portably(text: &[u8], length: usize, space: &mut [u8]) -> Option<()> {
    let space = space.get_mut(..length)?;
    STANDARD.decode(text, space.as_out()).ok().map(|_| ())
}

/// [`decode_32`] and [`decode_16`] at once, to where the bytes are wanted; false when one of them is not good.
#[inline]
pub(crate) fn decode_heads(
    texts: (&[u8; 44], &[u8; 24]),
    hash: &mut [u8; 32],
    salt: &mut [u8; 16],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = crate::vector::Avx2::detect() {
        return instructions.decode_heads(texts, hash, salt);
    }
    let Some(both) = decode_32(texts.0).zip(decode_16(texts.1)) else {
        return false;
    };
    (*hash, *salt) = both;
    true
}

/// Appends the letters of these bytes.
#[inline]
pub(crate) fn encode(bytes: &[u8], text: &mut Vec<u8>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = crate::vector::Avx2::detect() {
        return instructions.encode(bytes, text);
    }
    encode_portably(bytes, text);
}

/// The letters and pads of what stands behind the last triple.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn last_letters(bytes: &[u8]) -> Option<[u8; 4]> {
    let letter = |value: u8| LETTERS.get(usize::from(value & 63)).copied().unwrap_or(BAD);
    match *bytes {
        [one] => Some([letter(one >> 2), letter(one << 4), b'=', b'=']),
        [one, two] => {
            let middle = letter(one << 4 | two >> 4);
            Some([letter(one >> 2), middle, letter(two << 2), b'='])
        }
        _ => None,
    }
}

/// The portable twin.
fn encode_portably(bytes: &[u8], text: &mut Vec<u8>) {
    STANDARD.encode_append(bytes, text);
}

#[cfg(test)]
mod tests {
    use ::base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    #[test]
    fn the_long_form_agrees_with_another_decoder_on_every_changed_letter() {
        let decode = |text: &[u8]| {
            let length = decoded_len(text)?;
            let mut twins = [vec![7; length], vec![7; length], vec![7; length + 40]];
            let [one, two, three] = &mut twins;
            let good = decode_portably(text, length, one);
            assert_eq!(decode_into(text, length, two), good);
            assert_eq!(decode_into(text, length, three), good);
            good?;
            let after = &three[length..];
            let zeros = after.iter().take_while(|byte| **byte == 0).count();
            assert!(zeros <= 24 && after[zeros..].iter().all(|byte| *byte == 7));
            three.truncate(length);
            let [one, two, three] = twins;
            assert!(one == two && one == three, "{length}");
            Some(one)
        };
        for length in [
            0, 1, 2, 3, 15, 16, 22, 23, 24, 25, 26, 31, 47, 48, 49, 95, 96, 97, 200,
        ] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 37) as u8).collect();
            let text = STANDARD.encode(&bytes).into_bytes();
            let (mut own, mut twin) = (b"before".to_vec(), b"before".to_vec());
            encode(&bytes, &mut own);
            encode_portably(&bytes, &mut twin);
            assert_eq!((&own[6..], &own), (&text[..], &twin));
            for place in 0..text.len() {
                for letter in 0..=255 {
                    let mut text = text.clone();
                    text[place] = letter;
                    let expected = STANDARD.decode(&text).ok();
                    assert_eq!(decode(&text), expected);
                }
            }
            for cut in 0..text.len() {
                let expected = STANDARD.decode(&text[..cut]).ok();
                assert_eq!(decode(&text[..cut]), expected);
            }
        }
    }

    #[test]
    fn the_short_forms_agree_with_the_long_one_on_every_changed_letter() {
        let (long, short) = (STANDARD.encode([0x9a; 32]), STANDARD.encode([0x5b; 16]));
        assert_eq!(
            decode_32(long.as_bytes().try_into().unwrap()),
            Some([0x9a; 32])
        );
        assert_eq!(
            decode_16(short.as_bytes().try_into().unwrap()),
            Some([0x5b; 16])
        );
        for letter in 0..=255 {
            for place in 0..68 {
                let (mut one, mut two) = (long.clone().into_bytes(), short.clone().into_bytes());
                *one.iter_mut().chain(&mut two).nth(place).unwrap() = letter;
                let (one, two) = (&one.try_into().unwrap(), &two.try_into().unwrap());
                let (mut hash, mut salt) = ([3; 32], [3; 16]);
                let good = decode_heads((one, two), &mut hash, &mut salt);
                let expected = decode_32(one).zip(decode_16(two));
                assert_eq!(good.then_some((hash, salt)), expected);
            }
            for place in 0..44 {
                let mut text: [u8; 44] = long.as_bytes().try_into().unwrap();
                text[place] = letter;
                let expected = STANDARD.decode(text).ok().and_then(|b| b.try_into().ok());
                assert_eq!(decode_32(&text), expected);
            }
            for place in 0..24 {
                let mut text: [u8; 24] = short.as_bytes().try_into().unwrap();
                text[place] = letter;
                let expected = STANDARD.decode(text).ok().and_then(|b| b.try_into().ok());
                assert_eq!(decode_16(&text), expected);
            }
        }
    }
}
