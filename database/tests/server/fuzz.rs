//! Random arguments, seeded, in every argument of every procedure: bytes of all kinds, invalid UTF-8, characters of four
//! bytes, lengths up to a megabyte, extreme numbers, and near misses of what would be right.

use mysql_async::{Row, Value, prelude::*};

use crate::support::*;

const SEED: u64 = 0x5eed_2026_1126_0004;
const ROUNDS: u32 = 350;

/// SplitMix64: the same calls at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    fn value(&mut self, right: &Value) -> Value {
        let length = match self.below(20) {
            0 => 1 << 20,
            1 => self.below(70_000),
            2..=6 => self.below(300),
            _ => self.below(40),
        };
        match self.below(8) {
            0 => Value::Bytes(self.bytes(length)),
            1 => Value::Bytes(b"\xf0\x9f\x94\x91".repeat(length / 4 + 1)),
            2 => Value::Bytes([b"\xc3(".as_slice(), &self.bytes(length)].concat()),
            3 => Value::Bytes(
                (0..length)
                    .map(|_| b"'\"`\\;%_\0\n -/*#"[self.below(14)])
                    .collect(),
            ),
            4 => Value::Int([i64::MIN, -1, 0, 1, i64::MAX][self.below(5)]),
            5 => Value::UInt(u64::MAX - self.next() % 3),
            6 => Value::Double(f64::from_bits(self.next())),
            _ => self.near(right),
        }
    }

    /// What is right but for a byte: changed, doubled, dropped or put at an end.
    fn near(&mut self, right: &Value) -> Value {
        let Value::Bytes(bytes) = right else {
            return Value::Int(self.next().cast_signed());
        };
        let mut bytes = bytes.clone();
        let at = self.below(bytes.len());
        match self.below(4) {
            0 => bytes[at] = self.next().to_le_bytes()[0],
            1 => bytes.insert(at, bytes[at]),
            2 => drop(bytes.remove(at)),
            _ => bytes.push(self.next().to_le_bytes()[0]),
        }
        Value::Bytes(bytes)
    }
}

/// A server ignores spaces at the end when it compares, and may drop what is no UTF-8 at the end when it takes an argument:
/// what names the caller's own account all the same is its own.
fn means_the_same(one: &Value, other: &Value) -> bool {
    fn taken(bytes: &[u8]) -> &[u8] {
        let valid = match std::str::from_utf8(bytes) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        bytes[..valid].trim_ascii_end()
    }
    match (one, other) {
        (Value::Bytes(one), Value::Bytes(other)) => taken(one) == taken(other),
        _ => one == other,
    }
}

async fn everything(server: &Server) -> Vec<Vec<Vec<Value>>> {
    let mut all = Vec::new();
    for statement in [
        "SELECT User, Host FROM mysql.user ORDER BY 1, 2",
        "SHOW DATABASES",
        "SELECT * FROM powerpole.accounts ORDER BY id",
        "SELECT * FROM powerpole.nonces ORDER BY nonce",
        "SELECT * FROM powerpole.settings ORDER BY name",
        "SELECT * FROM powerpole.ticket_keys ORDER BY key_id",
        "SHOW GRANTS FOR 'alice'@'127.0.0.3'",
    ] {
        let rows: Vec<Row> = server.owner().await.query(statement).await.unwrap();
        all.push(rows.into_iter().map(Row::unwrap).collect());
    }
    all
}

#[tokio::test]
async fn random_arguments_change_nothing_anywhere() {
    on_each("fuzz", |server| async move {
        // Longer than this test takes on any machine.
        let mut owner = server.owner().await;
        let lease = "UPDATE powerpole.settings SET value = '3600' WHERE name = 'lease_s'";
        owner.query_drop(lease).await.unwrap();
        let ticket = open(&server, "READ", "127.0.0.3").await;
        let before = everything(&server).await;
        for fast in ["SET GLOBAL innodb_flush_log_at_trx_commit = 2", "SET GLOBAL sync_binlog = 0"] {
            owner.query_drop(fast).await.unwrap();
        }
        let mut random = Random(SEED);
        let fresh = server.ticket("bob", "ADMIN", 600).await;
        let extension = server
            .unsigned(ticket.request.as_str(), "alice", "READ", &["app_1"], 900)
            .await
            .signed_extension(&KEY, BASTION.parse().unwrap());
        let open = open_arguments(&fresh, server.authentication());
        let extend = open_arguments(&extension, extension.not_after - 1);
        let pair = own(&ticket);
        let mut three = pair.clone();
        three.push(ticket.not_after.into());
        let mut grantor = server.grantor("127.0.0.3").await;
        let (mut tried, mut broken) = (0u32, 0u32);
        for _ in 0..ROUNDS {
            for (procedure, right) in [
                ("open_account", &open),
                ("extend_account", &extend),
                ("renew_lease", &pair),
                ("set_deadline", &three),
                ("close_account", &pair),
                ("account_state", &pair),
                ("end_connections", &pair),
            ] {
                let mut arguments = right.clone();
                // One argument mostly, sometimes several.
                for _ in 0..[1, 1, 1, 2, 9][random.below(5)] {
                    let at = random.below(arguments.len());
                    arguments[at] = random.value(&right[at]);
                }
                // The last of nine and of three is the caller's own choice: a hash, a deadline.
                let bound = if right.len() == 2 { 2 } else { right.len() - 1 };
                let mut same = arguments.iter().zip(right).take(bound);
                if same.all(|(one, other)| means_the_same(one, other)) {
                    continue;
                }
                tried += 1;
                let answer = call(&mut grantor, procedure, arguments.clone()).await;
                if let Ok(answer) = &answer {
                    let shown: Vec<String> = arguments.iter().map(|value| match value {
                        Value::Bytes(bytes) => bytes.iter().take(100).map(|b| format!("{b:02x}")).collect(),
                        other => format!("{other:?}"),
                    }).collect();
                    panic!("{} {procedure} {shown:?}: {answer:?}", server.name);
                }
                // A server may end a connection over what it cannot read.
                if grantor.ping().await.is_err() {
                    broken += 1;
                    grantor = server.grantor("127.0.0.3").await;
                }
            }
        }
        for safe in ["SET GLOBAL innodb_flush_log_at_trx_commit = 1", "SET GLOBAL sync_binlog = 1"] {
            owner.query_drop(safe).await.unwrap();
        }
        assert_eq!(everything(&server).await, before, "{}", server.name);
        server.wait_for_event(&mut owner).await;
        println!("{}: {tried} random calls (seed {SEED:#x}), 0 had an effect, {broken} connections broken", server.name);
        // On a connection of its own: see the next test for what becomes of digits where a number was before.
        let mut grantor = server.grantor("127.0.0.3").await;
        call(&mut grantor, "close_account", own(&ticket)).await.unwrap();
    })
    .await;
}

/// MySQL keeps the type that a prepared statement's argument had first: after a number, a text that reads as a number becomes
/// one. A nonce of digits alone would lose its zeros; agents pass texts as texts from a connection's first call on.
#[tokio::test]
async fn mysql_makes_a_number_of_digits_where_a_number_was_before() {
    on_each("digits", |server| async move {
        let mut owner = server.owner().await;
        owner
            .query_drop("CREATE PROCEDURE app_1.echo(t TEXT) SELECT t")
            .await
            .unwrap();
        let mut seen = Vec::new();
        for (first, then) in [("text", "007"), ("7", "007"), ("7", "007f")] {
            let first = first.parse().map_or_else(|_| first.into(), Value::Int);
            let mut conn = server.owner().await;
            for value in [first, then.into()] {
                let row: Option<String> = conn
                    .exec_first("CALL app_1.echo(?)", (value,))
                    .await
                    .unwrap();
                seen.push(row.unwrap());
            }
        }
        owner.query_drop("DROP PROCEDURE app_1.echo").await.unwrap();
        let digits = match server.dialect {
            powerpole_database::Dialect::MySql => "7",
            powerpole_database::Dialect::MariaDb => "007",
        };
        assert_eq!(
            seen,
            ["text", "007", "7", digits, "7", "007f"],
            "{}",
            server.name
        );
    })
    .await;
}
