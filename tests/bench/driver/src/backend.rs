//! The sample API: 1 KiB or 1 MiB of JSON, at once or after 20 ms, to whoever sends the token.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// `[{…}, …]` of nearly so many bytes, never more, with the quotes and escapes that real data has.
pub fn json(bytes: usize) -> String {
    let item = |n: usize| {
        format!(
            r#"{{"id":{n},"subject":"Re: \"Budget\" – näher","from":"ada@contoso.example","isRead":true}}"#
        )
    };
    let count = (bytes - 2) / (item(1_000_000).len() + 1);
    let items: Vec<String> = (0..count).map(|n| item(1_000_000 + n)).collect();
    format!("[{}]", items.join(","))
}

/// Listens on a free port for as long as the process lives; gives its base URL.
pub fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    println!("{url}");
    let answers: [Vec<u8>; 2] = [1024, 1024 * 1024].map(|size| answer("200 OK", &json(size)));
    let answers: &'static [Vec<u8>; 2] = Box::leak(Box::new(answers));
    for socket in listener.incoming().flatten() {
        thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn(move || serve(socket, answers))
            .unwrap();
    }
    url
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn serve(mut socket: TcpStream, [small, large]: &[Vec<u8>; 2]) {
    let _ = socket.set_nodelay(true);
    let mut head = Vec::new();
    let mut piece = [0; 8 * 1024];
    while let Ok(count @ 1..) = socket.read(&mut piece) {
        head.extend_from_slice(&piece[..count]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let sent = match text.split(' ').nth(1) {
            _ if !text.contains("\r\nauthorization: bearer bench\r\n") => {
                socket.write_all(&answer("401 No", "{}"))
            }
            Some("/large") => socket.write_all(large),
            Some("/slow") => {
                thread::sleep(Duration::from_millis(20));
                socket.write_all(small)
            }
            _ => socket.write_all(small),
        };
        if sent.is_err() {
            return;
        }
        head.clear();
    }
}
