//! Downloading from servers that break off, lie, refuse and recover.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use common::server::{Reply, Server};
use common::{binary_archive, digests, fetch_with, md5, python_archive, run, tiny_spec};
use tempfile::TempDir;
use xtask::Client;
use xtask::dataset::Spec;
use xtask::fetch::{Origin, Request};

const ATTEMPTS: usize = 3;

fn official(url: &str) -> Origin {
    let client = Client::direct(ATTEMPTS as u32, Duration::from_millis(1), Duration::from_secs(5));
    Origin::Official { base_url: url.to_owned(), client }
}

/// The tiny data set, its binary archive with the digest published, and an empty folder.
fn setup() -> (Spec, Vec<u8>, TempDir) {
    let mut spec = tiny_spec();
    let archive = binary_archive(&spec);
    spec.archives[0].md5 = md5(&archive);
    (spec, archive, tempfile::tempdir().unwrap())
}

fn part(folder: &Path) -> std::path::PathBuf {
    folder.join(".fetch/cifar-100-binary.tar.gz.part")
}

fn assert_nothing_is_there(folder: &Path) {
    assert!(!folder.join("cifar100").exists());
    assert!(!folder.join(".fetch/cifar-100-binary.tar.gz").exists());
}

#[test]
fn a_broken_transfer_is_taken_up_where_it_ended() {
    let (spec, archive, folder) = setup();
    let (body, half) = (archive.clone(), archive.len() / 2);
    let server = Server::start(move |number, asked| match number {
        0 => Reply::announced(&body[..half], body.len()),
        _ => Reply::ranged(&body, asked),
    });
    let printed = fetch_with(&spec, folder.path(), official(&server.url), false).unwrap();
    assert!(printed.contains("cifar100 is ready"), "{printed}");
    let from: Vec<_> = server.asked().iter().map(|asked| asked.from).collect();
    assert_eq!(from, [None, Some(half)]);
    digests(&spec, folder.path());
    assert!(!part(folder.path()).exists());
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (spec, archive, folder) = setup();
    let server = Server::start(move |number, _| match number {
        0 => Reply::announced(&archive[..100], archive.len()),
        _ => Reply::whole(&archive),
    });
    fetch_with(&spec, folder.path(), official(&server.url), false).unwrap();
    digests(&spec, folder.path());
}

#[test]
fn a_length_that_never_comes_is_an_error_and_the_part_is_kept() {
    let (spec, archive, folder) = setup();
    let server = Server::start(move |_, asked| match asked.from {
        None => Reply::announced(&archive, archive.len() + 10),
        Some(from) => {
            let mut reply = Reply::announced(&[], 10);
            reply.status = "206 Partial Content";
            reply.headers.push(format!("Content-Range: bytes {from}-{}/{}", from + 9, from + 10));
            reply
        }
    });
    let message = fetch_with(&spec, folder.path(), official(&server.url), false).unwrap_err();
    assert!(message.contains("failed 3 times in a row") && message.contains("broke off after"), "{message}");
    assert!(part(folder.path()).exists());
    assert_nothing_is_there(folder.path());
}

#[test]
fn a_wrong_digest_is_refused_and_nothing_is_left() {
    let (spec, archive, folder) = setup();
    let mut wrong = archive.clone();
    wrong[50] ^= 1;
    let wrong_md5 = md5(&wrong);
    let server = Server::start(move |_, asked| Reply::ranged(&wrong, asked));
    let message = fetch_with(&spec, folder.path(), official(&server.url), false).unwrap_err();
    assert!(message.contains(&wrong_md5) && message.contains(&md5(&archive)), "{message}");
    assert_eq!(server.asked().len(), 1);
    assert!(!part(folder.path()).exists());
    assert_nothing_is_there(folder.path());
}

#[test]
fn a_stale_part_is_given_up_once() {
    let (spec, archive, folder) = setup();
    fs::create_dir(folder.path().join(".fetch")).unwrap();
    fs::write(part(folder.path()), [0; 64]).unwrap();
    let server = Server::start(move |_, asked| Reply::ranged(&archive, asked));
    fetch_with(&spec, folder.path(), official(&server.url), false).unwrap();
    let from: Vec<_> = server.asked().iter().map(|asked| asked.from).collect();
    assert_eq!(from, [Some(64), None]);
}

#[test]
fn a_whole_part_and_a_part_that_is_too_long_are_distinguished() {
    let (spec, archive, folder) = setup();
    fs::create_dir(folder.path().join(".fetch")).unwrap();
    fs::write(part(folder.path()), &archive).unwrap();
    let body = archive.clone();
    let server = Server::start(move |_, asked| Reply::ranged(&body, asked));
    fetch_with(&spec, folder.path(), official(&server.url), false).unwrap();
    assert_eq!(server.asked().len(), 1);

    fs::remove_dir_all(folder.path()).unwrap();
    fs::create_dir_all(folder.path().join(".fetch")).unwrap();
    fs::write(part(folder.path()), [archive, vec![0; 9]].concat()).unwrap();
    fetch_with(&spec, folder.path(), official(&server.url), false).unwrap();
    digests(&spec, folder.path());
}

#[test]
fn a_busy_server_is_asked_again_and_a_forbidding_one_is_not() {
    let (spec, archive, folder) = setup();
    let server = Server::start(move |number, asked| match number {
        0 | 1 => Reply::status("503 Service Unavailable"),
        _ => Reply::ranged(&archive, asked),
    });
    fetch_with(&spec, folder.path(), official(&server.url), false).unwrap();
    assert_eq!(server.asked().len(), 3);

    let (spec, _, folder) = setup();
    let server = Server::start(|_, _| Reply::status("403 Forbidden"));
    let message = fetch_with(&spec, folder.path(), official(&server.url), false).unwrap_err();
    assert!(message.ends_with("answered 403 Forbidden"), "{message}");
    assert_eq!(server.asked().len(), 1);

    let server = Server::start(|_, _| Reply::status("502 Bad Gateway"));
    let message = fetch_with(&spec, folder.path(), official(&server.url), false).unwrap_err();
    assert!(message.contains("502 Bad Gateway"), "{message}");
    assert_eq!(server.asked().len(), ATTEMPTS);
    assert_nothing_is_there(folder.path());
}

#[test]
fn an_absent_archive_is_replaced_by_the_other_form() {
    let (mut spec, _, folder) = setup();
    let archive = python_archive(&spec);
    spec.archives[1].md5 = md5(&archive);
    let server = Server::start(move |_, asked| match asked.path.as_str() {
        "/cifar-100-python.tar.gz" => Reply::ranged(&archive, asked),
        _ => Reply::status("404 Not Found"),
    });
    fetch_with(&spec, folder.path(), official(&server.url), false).unwrap();
    digests(&spec, folder.path());

    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply::status("404 Not Found"));
    let message = fetch_with(&spec, folder.path(), official(&server.url), false).unwrap_err();
    assert!(message.contains("neither cifar-100-binary.tar.gz nor cifar-100-python.tar.gz"), "{message}");
}

#[test]
fn a_refused_port_and_a_silent_server_are_errors() {
    let (spec, _, folder) = setup();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let message = fetch_with(&spec, folder.path(), official(&url), false).unwrap_err();
    assert!(message.contains("cannot reach") && message.contains("failed 3 times"), "{message}");

    let server = Server::start(|_, _| Reply { silence: Duration::from_secs(2), ..Reply::status("200 OK") });
    let client = Client::direct(1, Duration::from_millis(1), Duration::from_millis(100));
    let origin = Origin::Official { base_url: server.url, client };
    let message = fetch_with(&spec, folder.path(), origin, false).unwrap_err();
    assert!(message.contains("timeout"), "{message}");
    assert_nothing_is_there(folder.path());
}

#[test]
fn a_length_beyond_belief_is_refused_before_anything_is_written() {
    let (spec, _, folder) = setup();
    let server = Server::start(|_, _| Reply::announced(b"x", 1 << 40));
    let message = fetch_with(&spec, folder.path(), official(&server.url), false).unwrap_err();
    assert!(message.contains("announces 1099511627776 bytes"), "{message}");
    assert!(!part(folder.path()).exists());
}

#[test]
fn offline_uses_what_was_downloaded_and_asks_nobody() {
    let (spec, archive, folder) = setup();
    let server = Server::start(move |_, asked| Reply::ranged(&archive, asked));
    let request = |offline| Request {
        data_dir: folder.path().to_owned(),
        origin: official(&server.url),
        offline,
        force: true,
    };
    let message = run(&spec, &request(true)).unwrap_err();
    assert!(message.contains("--offline opens no connection"), "{message}");
    run(&spec, &request(false)).unwrap();
    assert!(run(&spec, &request(true)).unwrap().contains("using "));
    assert_eq!(server.asked().len(), 1);
}
