//! XA PREPARE within a text that the server is to execute, whole.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn no_xa_branch_is_prepared_by_a_text_that_holds_it_whole() {
    let name = "no_xa_branch_is_prepared_by_a_text_that_holds_it_whole";
    let Some(setting) = setting(name).await else {
        return;
    };
    // As a value its length, 97, is an `a` in front of it.
    let by_length = format!("{:<97}", "XA PREPARE 'pp'");
    for (server, mut owner) in setting.servers.iter().zip(owners().await) {
        let trial = trial_before(*server, &setting).await;
        for (number, spelling) in [
            r"EXECUTE IMMEDIATE '\nXA PREPARE ''pp'''",
            r"EXECUTE IMMEDIATE '\rXA\tPREPARE\n''pp'''",
            r"EXECUTE IMMEDIATE 'XA\nPREPARE ''pp'''",
            r"EXECUTE IMMEDIATE '\XA PREPARE ''pp'''",
            r"EXECUTE IMMEDIATE 'X\A PREP\A\RE ''pp'''",
            r"EXECUTE IMMEDIATE '/**/\n\n\txa/*\nx*/prepare ''pp'''",
            r"EXECUTE IMMEDIATE _utf16'\0X\0A\0 \0P\0R\0E\0P\0A\0R\0E\0 \0\'\0p\0p\0\''",
            "EXECUTE IMMEDIATE 'XA PRE' 'PARE ''pp'''",
            "SET @x = ?",
        ]
        .into_iter()
        .enumerate()
        {
            let xid = format!("tt{number}");
            let mut conn = Conn::new(Opts::from(options(&trial, &setting)))
                .await
                .unwrap();
            for statement in [
                "CREATE TABLE IF NOT EXISTS texts (id INT PRIMARY KEY)",
                &format!("XA START '{xid}'"),
                &format!("INSERT INTO texts VALUES ({number})"),
                &format!("XA END '{xid}'"),
            ] {
                conn.query_drop(statement).await.unwrap();
            }
            let with = |text: &str| text.replace("pp", &xid);
            let answer = if spelling.contains('?') {
                conn.exec_drop(spelling, (by_length.replace("pp ", &xid),))
                    .await
            } else {
                conn.query_drop(with(spelling)).await
            };
            assert!(answer.is_err(), "{server}: {spelling}");
            let last = refusals(&trial.spool).pop();
            assert_eq!(last.unwrap()["code"], "sql_xa_prepare", "{spelling}");
            let left: Vec<mysql_async::Row> = owner.query("XA RECOVER").await.unwrap();
            assert_eq!(left.len(), 0, "{server}: {spelling}");
        }
        owner
            .query_drop(format!("DROP TABLE {}.texts", setting.user))
            .await
            .unwrap();
        trial.endpoint.stop().await;
    }
}
