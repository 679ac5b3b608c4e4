//! The file: whose it is, and what happens when it is damaged.

use super::*;

/// Change bytes of a file behind everybody's back.
fn overwrite(path: &Path, find: &[u8], with: &[u8]) -> usize {
    let mut bytes = std::fs::read(path).expect("the file");
    let places: Vec<usize> =
        bytes.windows(find.len()).enumerate().filter(|(_, window)| *window == find).map(|(at, _)| at).collect();
    for at in &places {
        bytes[*at..at + with.len()].copy_from_slice(with);
    }
    std::fs::write(path, bytes).expect("written");
    places.len()
}

#[tokio::test]
async fn two_gateways_cannot_have_one_file() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&options.path, &link).expect("a link");
    for path in [options.path.clone(), link] {
        let error = Outbox::open(&Options { path, ..options.clone() }, Vec::new()).expect_err("in use");
        assert!(matches!(error, OpenError::InUse { owner: Some(pid), .. } if pid == std::process::id()), "{error}");
    }
    outbox.close().await;
    drop(outbox);
    open_idle(&options, Vec::new()).close().await;
}

#[tokio::test]
async fn files_that_are_no_outbox_of_this_version_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path());
    let path = &options.path;
    let refused = || Outbox::open(&options, Vec::new()).expect_err("refused");
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection.execute_batch("CREATE TABLE precious (a); INSERT INTO precious VALUES (1)").expect("made");
    assert!(matches!(refused(), OpenError::Foreign { .. }));
    drop(connection);
    std::fs::remove_file(path).expect("removed");
    open_idle(&options, Vec::new()).close().await;
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection.pragma_update(None, "user_version", 2).expect("set");
    drop(connection);
    assert!(matches!(refused(), OpenError::Newer { found: 2, .. }));
    std::fs::write(path, "a letter of more than a hundred bytes. ".repeat(40)).expect("written");
    assert!(matches!(refused(), OpenError::Damaged { .. }));
    let nowhere = Options { path: folder.path().join("no/outbox.db"), ..options.clone() };
    assert!(matches!(Outbox::open(&nowhere, Vec::new()).expect_err("refused"), OpenError::Unusable { .. }));
    let a_folder = Options { path: folder.path().to_owned(), ..options.clone() };
    assert!(matches!(Outbox::open(&a_folder, Vec::new()).expect_err("refused"), OpenError::Unusable { .. }));
}

#[tokio::test]
async fn a_flipped_byte_in_a_stored_event_is_found_and_the_event_never_delivered_as_good() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    let drafts = vec![keyed("k", "first"), keyed("k", "precious cargo"), keyed("k", "third")];
    publisher.publish("t", drafts).await.expect("accepted");
    outbox.close().await;
    drop(outbox);
    assert_eq!(overwrite(&options.path, b"precious cargo", b"PRECIOUS"), 1);
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    outbox.flush().await;
    assert_eq!(memory.bodies(), ["first", "third"]);
    let status = outbox.status();
    assert_eq!((status.damaged, status.pending, status.events), (1, 0, 1), "it is kept");
    outbox.close().await;
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    assert_eq!((outbox.status().damaged, memory.got().len()), (1, 2));
    outbox.close().await;
}

#[tokio::test]
async fn a_flipped_byte_in_a_page_is_found_when_the_file_is_opened() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    publisher.publish("t", vec![draft(&"x".repeat(100)); 500]).await.expect("accepted");
    outbox.close().await;
    drop(outbox);
    let mut bytes = std::fs::read(&options.path).expect("the file");
    // Every page begins with its kind; the first one with the file's own head.
    let page = 4096 * 5;
    bytes[page] ^= 0x55;
    std::fs::write(&options.path, &bytes).expect("written");
    let error = Outbox::open(&options, vec![spec("m", ">", &memory)]).expect_err("damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.hint().contains("repair"));
    assert_eq!(std::fs::read(&options.path).expect("the file"), bytes, "left as it is");
}

#[tokio::test]
async fn a_torn_end_of_the_log_costs_what_it_held_and_nothing_before() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    publisher.publish("t", vec![draft("first")]).await.expect("accepted");
    publisher.publish("t", vec![draft("second")]).await.expect("accepted");
    // As a power cut may leave it: the log without its last page.
    let elsewhere = tempfile::tempdir().expect("a folder");
    for name in ["outbox.db", "outbox.db-wal"] {
        std::fs::copy(folder.path().join(name), elsewhere.path().join(name)).expect("copied");
    }
    outbox.close().await;
    let log = elsewhere.path().join("outbox.db-wal");
    let length = std::fs::metadata(&log).expect("the log").len();
    let file = std::fs::OpenOptions::new().write(true).open(&log).expect("the log");
    file.set_len(length - 100).expect("torn");
    let outbox = open(&Options { path: elsewhere.path().join("outbox.db"), ..options }, vec![spec("m", ">", &memory)]);
    outbox.flush().await;
    assert_eq!(memory.bodies(), ["first"]);
    outbox.close().await;
}
