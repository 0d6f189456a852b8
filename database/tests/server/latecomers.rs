//! A login that began before its account went, and ends after it.

use std::{sync::Arc, time::Duration};

use mysql_async::{Conn, OptsBuilder, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    sync::watch,
};

use crate::support::*;

/// Where the bastion is.
const HERE: &str = "127.0.0.7";

/// A login sends fewer pieces than this.
const PIECES: usize = 8;

/// Forwards one connection to the server, and holds what the client sends after `pieces` of it until it is told to go on.
async fn hold_after(pieces: usize, server: &Server, mut go_on: watch::Receiver<bool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap().port();
    let far = address(&server.owner);
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{HERE}:0").parse().unwrap()).unwrap();
        let (mut from_server, mut to_server) = socket.connect(far).await.unwrap().into_split();
        let (mut from_client, mut to_client) = client.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut piece = vec![0; 1 << 16];
        for number in 0.. {
            let length = from_client.read(&mut piece).await.unwrap_or(0);
            if number >= pieces {
                let _ = go_on.wait_for(|told| *told).await;
            }
            if length == 0 || to_server.write_all(&piece[..length]).await.is_err() {
                break;
            }
        }
    });
    near
}

async fn connections(owner: &mut Conn) -> i64 {
    let statement = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'alice' AND HOST LIKE '{HERE}:%'"
    );
    owner.query_first(statement).await.unwrap().unwrap()
}

/// Whether the login came to its end after its account was gone; nothing of it is left either way.
async fn late_after(pieces: usize, server: &Arc<Server>) -> bool {
    let mut owner = server.owner().await;
    let ticket = open(server, "READ", HERE).await;
    let (go_on, told) = watch::channel(false);
    let near = hold_after(pieces, server, told).await;
    let opts = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(near)
        .user(Some("alice"))
        .pass(Some(PASSWORD));
    let login = tokio::spawn(Conn::new(options(opts.into())));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let held = !login.is_finished();
    let mut grantor = server.grantor(HERE).await;
    let closed = call(&mut grantor, "close_account", own(&ticket))
        .await
        .unwrap();
    assert_eq!(closed["account_exists"], "0", "{}", server.name);
    go_on.send_replace(true);
    let late = login.await.unwrap();
    let came = held && late.is_ok();
    for _ in 0..300 {
        if connections(&mut owner).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let left = connections(&mut owner).await;
    assert_eq!(left, 0, "{}: after {pieces} pieces", server.name);
    if let Ok(mut late) = late {
        assert!(late.query_drop("DO 1").await.is_err(), "{}", server.name);
    }
    came
}

#[tokio::test]
async fn a_login_that_ends_after_its_account_is_gone_is_ended_too() {
    on_each("a late login", |server| async move {
        let mut came = 0;
        for pieces in 0..PIECES {
            came += u32::from(late_after(pieces, &server).await);
        }
        println!(
            "{}: of {PIECES} logins that were held where they were until the account was gone, {came} came in after it, and none stayed",
            server.name
        );
    })
    .await;
}
