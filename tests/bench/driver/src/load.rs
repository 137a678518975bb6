//! Load: a thread a connection sends the same bytes again and again, and compares every answer with
//! the first one, which was checked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// One HTTP exchange after the other on one connection.
pub struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self {
            socket,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// The body of the answer to `request`.
    pub fn exchange(&mut self, request: &[u8]) -> Result<&[u8], String> {
        self.socket
            .write_all(request)
            .map_err(|error| error.to_string())?;
        let (mut filled, mut whole) = (0, None);
        loop {
            match whole {
                Some((head, end)) if filled >= end => return Ok(&self.buffer[head..end]),
                Some((_, end)) if self.buffer.len() < end => self.buffer.resize(end, 0),
                _ => {}
            }
            let count = self
                .socket
                .read(&mut self.buffer[filled..])
                .map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the connection was closed".to_owned());
            }
            filled += count;
            if whole.is_none() {
                whole = measured(&self.buffer[..filled])?;
            }
        }
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        let _ = self.socket.set_nonblocking(true);
        matches!(self.socket.peek(&mut [0]), Ok(0))
            || self
                .socket
                .peek(&mut [0])
                .is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
    }
}

/// Where body and answer end, once the head is there.
fn measured(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head]).map_err(|error| error.to_string())?;
    if !text.starts_with("HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(bytes).into_owned());
    }
    let mut fields = text.split("\r\n").filter_map(|line| line.split_once(": "));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length
        .and_then(|(_, value)| value.parse().ok())
        .ok_or("there is no length")?;
    Ok(Some((head + 4, head + 4 + length)))
}

/// What came of a load.
pub struct Outcome {
    pub requests: usize,
    pub seconds: f64,
    /// In microseconds, sorted.
    latencies: Vec<u32>,
}

impl Outcome {
    pub fn percentile(&self, percent: usize) -> f64 {
        let index = (self.latencies.len() * percent / 100).min(self.latencies.len() - 1);
        f64::from(self.latencies[index]) / 1000.0
    }
}

/// `connections` at a time for `time`, on one connection each, or on a fresh one for each request.
pub fn run(
    address: SocketAddr,
    request: &[u8],
    expected: &[u8],
    connections: usize,
    fresh: bool,
    time: Duration,
) -> Result<Outcome, String> {
    let begun = Instant::now();
    let one = || -> Result<Vec<u32>, String> {
        let connect = || Client::connect(address).map_err(|error| error.to_string());
        let (mut client, mut latencies) = (connect()?, Vec::new());
        while begun.elapsed() < time {
            let sent = Instant::now();
            if fresh {
                client = connect()?;
            }
            if client.exchange(request)? != expected {
                return Err("an answer differs from the first".to_owned());
            }
            latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        Ok(latencies)
    };
    let all: Result<Vec<Vec<u32>>, String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut latencies = all?.concat();
    latencies.sort_unstable();
    Ok(Outcome {
        requests: latencies.len(),
        seconds: begun.elapsed().as_secs_f64(),
        latencies,
    })
}
