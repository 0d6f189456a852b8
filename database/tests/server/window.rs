//! What happens while accounts are open: schemas are made and dropped, PowerPole is installed again.

use mysql_async::prelude::*;

use crate::support::*;

#[tokio::test]
async fn a_schema_made_during_the_window_gives_no_rights_but_one_of_the_grants_own_name_does() {
    on_each("schemas in the window", |server| async move {
        let mut owner = server.owner().await;
        for statement in ["DROP DATABASE IF EXISTS app_1_new", "DROP DATABASE IF EXISTS billing"] {
            owner.query_drop(statement).await.unwrap();
        }
        // Granted while billing is not there.
        let request = server.request().await;
        let ticket = server
            .unsigned(&request, "alice", "READ", &["app_1", "billing"], 600)
            .await
            .signed(&KEY, BASTION.parse().unwrap());
        let mut grantor = server.grantor("127.0.0.3").await;
        call(&mut grantor, "open_account", open_arguments(&ticket, server.authentication()))
            .await
            .unwrap();
        for statement in [
            "CREATE DATABASE app_1_new",
            "CREATE TABLE app_1_new.t (id INT)",
            "CREATE DATABASE billing",
            "CREATE TABLE billing.t (id INT PRIMARY KEY, v INT)",
        ] {
            owner.query_drop(statement).await.unwrap();
        }
        let mut alice = server.login("alice", PASSWORD, "127.0.0.3").await.unwrap();
        let another = alice.query_drop("SELECT * FROM app_1_new.t").await;
        assert!(another.is_err(), "{}", server.name);
        alice.query_drop("SELECT * FROM billing.t").await.unwrap();
        let write = alice.query_drop("INSERT INTO billing.t VALUES (1, 1)").await;
        assert!(write.is_err(), "{}", server.name);
        println!(
            "{}: a schema made during the window: no rights in another, the grant's own level in one of the grant's name",
            server.name
        );
        drop(alice);
        owner.query_drop("DROP DATABASE app_1_new").await.unwrap();
        call(&mut grantor, "close_account", own(&ticket)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn installing_again_harms_no_open_account() {
    on_each("install in the window", |server| async move {
        let ticket = open(&server, "READ", "127.0.0.3").await;
        let mut alice = server.login("alice", PASSWORD, "127.0.0.3").await.unwrap();
        let mut owner = server.owner().await;
        server.install(&mut owner, server.install_options()).await;
        alice.query_drop("SELECT * FROM app_1.t").await.unwrap();
        server.login("alice", PASSWORD, "127.0.0.3").await.unwrap();
        let mut grantor = server.grantor("127.0.0.3").await;
        call(&mut grantor, "renew_lease", own(&ticket))
            .await
            .unwrap();
        let closed = call(&mut grantor, "close_account", own(&ticket))
            .await
            .unwrap();
        assert_eq!(closed["state"], "closed", "{}", server.name);
        println!(
            "{}: installed again with an account open: it goes on, is renewed and closed",
            server.name
        );
    })
    .await;
}
