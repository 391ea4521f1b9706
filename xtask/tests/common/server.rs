//! A loopback HTTP server that misbehaves on request.
//!
//! A reply is raw, so a test can announce one length and send another.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// First byte of the `Range` header.
    pub(crate) from: Option<usize>,
}

/// The reply.
pub(crate) struct Reply {
    pub(crate) status: &'static str,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// Say nothing for so long.
    pub(crate) silence: Duration,
}

impl Reply {
    pub(crate) fn status(status: &'static str) -> Self {
        Self { status, headers: vec!["Content-Length: 0".into()], body: Vec::new(), silence: Duration::ZERO }
    }

    /// A whole body.
    pub(crate) fn whole(body: &[u8]) -> Self {
        Self::announced(body, body.len())
    }

    /// A body that is said to have `length` bytes.
    pub(crate) fn announced(body: &[u8], length: usize) -> Self {
        let headers = vec![format!("Content-Length: {length}")];
        Self { status: "200 OK", headers, body: body.to_vec(), silence: Duration::ZERO }
    }

    /// A correct server's reply to `asked`.
    pub(crate) fn ranged(body: &[u8], asked: &Asked) -> Self {
        match asked.from {
            None => Self::whole(body),
            Some(from) if from >= body.len() => {
                let mut reply = Self::status("416 Range Not Satisfiable");
                reply.headers.push(format!("Content-Range: bytes */{}", body.len()));
                reply
            }
            Some(from) => {
                let mut reply = Self::whole(&body[from..]);
                reply.status = "206 Partial Content";
                reply.headers.push(format!("Content-Range: bytes {from}-{}/{}", body.len() - 1, body.len()));
                reply
            }
        }
    }
}

/// Serves until the test process ends.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and the request.
    pub(crate) fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that went away is no concern of the server.
                let _ = stream.and_then(|stream| serve(stream, &answer, &log));
            }
        });
        Self { url, asked }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &impl Fn(usize, &Asked) -> Reply,
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(first) = lines.next() else { return Ok(()) };
    let first = first?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut asked = Asked { method, path, from: None };
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            asked.from = range.split('-').next().and_then(|from| from.parse().ok());
        }
    }
    let number = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let reply = answer(number, &asked);
    thread::sleep(reply.silence);
    let headers = reply.headers.join("\r\n");
    write!(stream, "HTTP/1.1 {}\r\n{headers}\r\nConnection: close\r\n\r\n", reply.status)?;
    stream.write_all(&reply.body)?;
    stream.flush()
}
