//! Shards from a hub on the loopback, and from its cache when the hub is gone.

#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::server::{Asked, Reply, Server};
use common::{binary_archive, digests, fetch_with, place_archive, run, tiny_spec};
use sha2::{Digest, Sha256};
use xtask::dataset::Spec;
use xtask::fetch::{Origin, Request};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hub with the shards in `mirror`; `spoil` changes a file's bytes on the way.
fn hub(mirror: &Path, spoil: fn(&mut Vec<u8>)) -> Server {
    let mut files: Vec<PathBuf> = fs::read_dir(mirror).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read =
        |path: &PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap());
    let files: Vec<(String, Vec<u8>)> = files.iter().map(read).collect();
    Server::start(move |_, asked| answer(&files, spoil, asked))
}

fn answer(files: &[(String, Vec<u8>)], spoil: fn(&mut Vec<u8>), asked: &Asked) -> Reply {
    let api = "/api/datasets/uoft-cs/cifar100/";
    if let Some(call) = asked.path.strip_prefix(api) {
        let json = if call.starts_with("tree/") {
            let entry = |(name, bytes): &(String, Vec<u8>)| {
                format!(r#"{{"type":"file","oid":"x","size":{},"path":"cifar100/{name}"}}"#, bytes.len())
            };
            let readme = r#"{"type":"file","oid":"x","size":3,"path":"README.md"}"#.to_owned();
            format!("[{}]", files.iter().map(entry).chain([readme]).collect::<Vec<_>>().join(","))
        } else {
            format!(r#"{{"id":"uoft-cs/cifar100","sha":"{COMMIT}"}}"#)
        };
        let mut reply = Reply::whole(json.as_bytes());
        reply.headers.push("Content-Type: application/json".into());
        return reply;
    }
    let resolve = format!("/datasets/uoft-cs/cifar100/resolve/{COMMIT}/cifar100/");
    let wanted = asked.path.strip_prefix(&resolve);
    let Some((_, bytes)) = files.iter().find(|(name, _)| wanted == Some(name)) else {
        return Reply::status("404 Not Found");
    };
    let mut sent = bytes.clone();
    spoil(&mut sent);
    let mut reply = Reply::whole(&sent);
    reply.headers.extend([format!("ETag: \"{}\"", sha256(bytes)), format!("X-Repo-Commit: {COMMIT}")]);
    if asked.method == "HEAD" {
        reply.body.clear();
    }
    reply
}

fn request(data_dir: &Path, cache: &Path, url: &str, offline: bool) -> Request {
    let origin = Origin::Hub { endpoint: Some(url.to_owned()), cache: Some(cache.to_owned()) };
    Request { data_dir: data_dir.to_owned(), origin, offline, force: true }
}

fn content_of_binary() -> [String; 2] {
    let (mut spec, mirror, data) = (tiny_spec(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = binary_archive(&spec);
    place_archive(&mut spec, 0, mirror.path(), &archive);
    fetch_with(&spec, data.path(), Origin::Folder(mirror.path().to_owned()), false).unwrap();
    digests(&spec, data.path())
}

#[test]
fn the_hub_is_asked_once_and_the_cache_afterwards() {
    let spec: Spec = tiny_spec();
    let [mirror, data, cache] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    common::shards::write(&spec, mirror.path());
    let server = hub(mirror.path(), |_| {});

    let message = run(&spec, &request(data.path(), cache.path(), &server.url, true)).unwrap_err();
    assert!(message.contains("no connection may be opened"), "{message}");
    assert_eq!(server.asked().len(), 0);

    run(&spec, &request(data.path(), cache.path(), &server.url, false)).unwrap();
    assert_eq!(digests(&spec, data.path()), content_of_binary());
    let asked = server.asked().len();
    for offline in [false, true] {
        run(&spec, &request(data.path(), cache.path(), &server.url, offline)).unwrap();
    }
    assert_eq!(server.asked().len(), asked, "the cache was enough");
}

#[test]
fn a_spoiled_shard_and_a_missing_repository_are_refused() {
    let spec = tiny_spec();
    let [mirror, data, cache] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    common::shards::write(&spec, mirror.path());
    let server = hub(mirror.path(), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let message = run(&spec, &request(data.path(), cache.path(), &server.url, false)).unwrap_err();
    assert!(message.contains("not the one in its name"), "{message}");

    let empty = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply::status("404 Not Found"));
    let message = run(&spec, &request(data.path(), empty.path(), &server.url, false)).unwrap_err();
    assert!(message.contains("cannot fetch uoft-cs/cifar100 from http://127.0.0.1"), "{message}");
    assert!(!data.path().join("cifar100").exists());
}
