//! Models on a hub that answers on the loopback: pushed, fetched by address, and read from the cache when it is gone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Place;
use crate::models::{SHORT, images, with};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "a-token-that-may-write";

/// Files by `owner/name` and name.
type Repositories = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

struct Request {
    method: String,
    path: String,
    token: Option<String>,
    body: Vec<u8>,
}

struct Hub {
    url: String,
    repositories: Arc<Mutex<Repositories>>,
    /// `METHOD path` of all requests so far.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Serves until the test process ends.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (repositories, asked) = (Arc::default(), Arc::default());
        let hub = Self { url, repositories, asked };
        let (repositories, asked) = (Arc::clone(&hub.repositories), Arc::clone(&hub.asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that went away is no concern of the server.
                let _ = serve(stream, &repositories, &asked);
            }
        });
        hub
    }

    fn files(&self, repository: &str) -> BTreeMap<String, Vec<u8>> {
        self.repositories.lock().expect("no panic").get(repository).cloned().unwrap_or_default()
    }

    fn put(&self, repository: &str, file: &str, bytes: Vec<u8>) {
        let mut all = self.repositories.lock().expect("no panic");
        all.entry(repository.to_owned()).or_default().insert(file.to_owned(), bytes);
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }

    /// The program with this hub and a cache in `place`.
    fn output(&self, place: &Place, more: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut program = place.program(arguments);
        program.env("HF_ENDPOINT", &self.url).env("HF_HUB_CACHE", place.path().join("cache"));
        program.env("HF_HOME", place.path().join("home")).env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE");
        program.envs(more.iter().copied()).output().expect("the program runs")
    }

    fn ok(&self, place: &Place, more: &[(&str, &str)], arguments: &[&str]) -> String {
        let output = self.output(place, more, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn refused(&self, place: &Place, more: &[(&str, &str)], arguments: &[&str]) -> String {
        let output = self.output(place, more, arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        text.lines().last().unwrap_or_default().to_owned()
    }
}

fn serve(
    mut stream: TcpStream,
    repositories: &Mutex<Repositories>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, token: None, body: Vec::new() };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        match name.to_lowercase().as_str() {
            "content-length" => request.body = vec![0; value.parse().unwrap_or(0)],
            "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    reader.read_exact(&mut request.body)?;
    asked.lock().expect("no panic").push(format!("{} {}", request.method, request.path));
    let (status, headers, body) = answer(&request, &mut repositories.lock().expect("no panic"));
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n")?;
    if request.method != "HEAD" {
        stream.write_all(&body)?;
    }
    stream.flush()
}

type Answer = (&'static str, String, Vec<u8>);

fn of_json(value: &Value) -> Answer {
    ("200 OK", "Content-Type: application/json\r\n".to_owned(), value.to_string().into_bytes())
}

fn missing(code: &str) -> Answer {
    let headers = format!("X-Error-Code: {code}\r\nX-Repo-Commit: {COMMIT}\r\n");
    ("404 Not Found", headers, Vec::new())
}

fn answer(request: &Request, repositories: &mut Repositories) -> Answer {
    let body = String::from_utf8_lossy(&request.body);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if request.method == "POST" && request.token.as_deref() != Some(TOKEN) {
        return (
            "401 Unauthorized",
            String::new(),
            b"{\"error\":\"Invalid username or password.\"}".to_vec(),
        );
    }
    if request.path == "/api/repos/create" {
        let asked: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(asked["type"], "model");
        let name = format!("{}/{}", text(&asked["organization"]), text(&asked["name"]));
        if repositories.contains_key(&name) {
            return ("409 Conflict", String::new(), b"{\"error\":\"it is there\"}".to_vec());
        }
        repositories.insert(name.clone(), BTreeMap::new());
        return of_json(&json!({ "url": format!("http://hub/{name}") }));
    }
    if let Some(call) = request.path.strip_prefix("/api/models/") {
        let parts: Vec<&str> = call.splitn(4, '/').collect();
        let [owner, name, call, _] = parts[..] else { return missing("RepoNotFound") };
        let Some(files) = repositories.get_mut(&format!("{owner}/{name}")) else {
            return missing("RepoNotFound");
        };
        match call.split('?').next() {
            Some("preupload") => {
                let asked: Value = serde_json::from_str(&body).expect("JSON");
                let mode = |file: &Value| json!({ "path": file["path"], "uploadMode": "regular" });
                let files: Vec<Value> = asked["files"].as_array().expect("files").iter().map(mode).collect();
                of_json(&json!({ "files": files }))
            }
            Some("commit") => {
                for line in body.lines() {
                    let line: Value = serde_json::from_str(line).expect("JSON");
                    if line["key"] == "file" {
                        let content = STANDARD.decode(text(&line["value"]["content"])).expect("base64");
                        files.insert(text(&line["value"]["path"]), content);
                    }
                }
                let url = format!("http://hub/{owner}/{name}/commit/{COMMIT}");
                of_json(&json!({ "commitUrl": url, "commitOid": COMMIT }))
            }
            Some("tree") => {
                let entry = |(name, bytes): (&String, &Vec<u8>)| json!({ "type": "file", "oid": "x", "size": bytes.len(), "path": name });
                of_json(&Value::Array(files.iter().map(entry).collect()))
            }
            _ => missing("EntryNotFound"),
        }
    } else {
        let parts: Vec<&str> = request.path.trim_start_matches('/').splitn(5, '/').collect();
        let [owner, name, "resolve", _, file] = parts[..] else { return missing("RepoNotFound") };
        let Some(files) = repositories.get(&format!("{owner}/{name}")) else {
            return missing("RepoNotFound");
        };
        let Some(bytes) = files.get(file) else { return missing("EntryNotFound") };
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        ("200 OK", format!("ETag: \"{digest}\"\r\nX-Repo-Commit: {COMMIT}\r\n"), bytes.clone())
    }
}

#[test]
fn a_model_is_pushed_and_read_by_its_address() {
    let (place, hub) = (Place::new(), Hub::start());
    images(&place, "photos", 0..2, 12, 1);
    let mut short = SHORT;
    short[5] = "1";
    place.ok(&with(&["train", "photos", "--out", "own.safetensors"], &short));
    let push = ["push", "own.safetensors", "hf://somebody/two-trees", "--license", "mit"];
    let token = [("HF_TOKEN", TOKEN)];

    // Without a token that may write, and without a connection.
    let message = hub.refused(&place, &[], &push);
    assert!(message.contains("hf://somebody/two-trees: ") && message.contains("Authentication"), "{message}");
    let message = hub.refused(&place, &[("HF_HUB_OFFLINE", "1")], &push);
    assert!(message.contains("HF_HUB_OFFLINE forbids a connection"), "{message}");

    // A dry run prints what the push writes.
    let asked = hub.asked();
    let card = hub.ok(&place, &token, &with(&push, &["--dry-run"]));
    assert_eq!(hub.asked(), asked, "a dry run opens no connection");
    // The first push makes the repository, the second finds it.
    for _ in 0..2 {
        let printed = hub.ok(&place, &token, &push);
        assert!(printed.contains(&format!("http://hub/somebody/two-trees/commit/{COMMIT}")), "{printed}");
    }
    let files = hub.files("somebody/two-trees");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["README.md", "model.safetensors"]);
    assert_eq!(files["model.safetensors"], fs::read(place.path().join("own.safetensors")).expect("a model"));
    assert_eq!(String::from_utf8_lossy(&files["README.md"]), card);
    assert!(card.contains("license: mit\n") && card.contains("ash, birch"), "{card}");

    let predict = |model: &str| hub.ok(&place, &[], &["predict", model, "photos", "--csv"]);
    let own = predict("own.safetensors");
    assert_eq!(predict("hf://somebody/two-trees"), own);
    let named = hub.ok(&place, &[], &["inspect", "hf://somebody/two-trees", "--json"]);
    let named: Value = serde_json::from_str(&named).expect("JSON");
    assert_eq!(named["file"], format!("hf://somebody/two-trees@{COMMIT}/model.safetensors"));

    // From the cache alone; another repository is not in it.
    let offline = [("HF_HUB_OFFLINE", "1")];
    let asked = hub.asked();
    assert_eq!(hub.ok(&place, &offline, &["predict", "hf://somebody/two-trees", "photos", "--csv"]), own);
    let message = hub.refused(&place, &offline, &["inspect", "hf://somebody/else"]);
    assert!(message.contains("model.safetensors is not in the cache"), "{message}");
    assert_eq!(hub.asked(), asked, "no connection was opened");
}

#[test]
fn a_model_of_another_program_is_read_with_its_config() {
    let (place, hub) = (Place::new(), Hub::start());
    images(&place, "photos", 0..2, 12, 1);
    let mut short = SHORT;
    (short[3], short[5]) = ("cifar-20", "1");
    place.ok(&with(&["train", "photos", "--out", "own.safetensors"], &short));
    place.ok(&["export", "own.safetensors", "--torch", "torch.safetensors"]);
    let bytes = fs::read(place.path().join("torch.safetensors")).expect("a model");
    hub.put("another/net", "weights/best.safetensors", bytes);
    hub.put("another/net", "README.md", b"no model".to_vec());

    let message = hub.refused(&place, &[], &["inspect", "hf://another/net"]);
    assert!(
        message.contains(
            "it has no model.safetensors; name one of its files (weights/best.safetensors), such as"
        ) && message.contains("hf://another/net/weights/best.safetensors"),
        "{message}"
    );
    let found = hub.ok(&place, &[], &["inspect", "hf://another/net/weights/best.safetensors", "--json"]);
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["classes"], json!(["ash", "birch"]));
    let message = hub.refused(&place, &[], &["push", "torch.safetensors", "hf://somebody/net", "--dry-run"]);
    assert!(message.contains("it is a model of another program"), "{message}");
    let message = hub.refused(&place, &[], &["inspect", "hf://nobody/nothing"]);
    assert!(message.contains("hf://nobody/nothing: "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn a_blob_that_rotted_in_the_cache_is_refused() {
    let (place, hub) = (Place::new(), Hub::start());
    images(&place, "photos", 0..2, 12, 1);
    let mut short = SHORT;
    short[5] = "1";
    place.ok(&with(&["train", "photos", "--out", "own.safetensors"], &short));
    let bytes = fs::read(place.path().join("own.safetensors")).expect("a model");
    hub.put("somebody/net", "model.safetensors", bytes);
    hub.ok(&place, &[], &["inspect", "hf://somebody/net"]);
    let blobs = place.path().join("cache/models--somebody--net/blobs");
    let blob = fs::read_dir(&blobs).expect("blobs").next().expect("a blob").expect("an entry").path();
    let mut content = fs::read(&blob).expect("a blob");
    let last = content.len() - 1;
    content[last] ^= 1;
    fs::write(&blob, content).expect("a blob");
    let message = hub.refused(&place, &[], &["inspect", "hf://somebody/net"]);
    assert!(message.contains("not that of its name; remove it"), "{message}");
}
