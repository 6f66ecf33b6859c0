//! A proxy in front of a server that can fall silent, hang up and babble.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a proxy does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Takes everything and answers nothing, old connections and new ones.
    Silent,
    /// Takes everything, passes it on and keeps the answers.
    Mute,
    /// Ends every connection.
    Closed,
    /// Answers with bytes that mean nothing.
    Garbage,
}

/// A proxy in front of a server that can fall silent.
pub(crate) struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, way) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *way.borrow() == Way::Closed {
                    drop(client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pump(from_client, to_server, way.clone(), false));
                tokio::spawn(pump(from_server, to_client, way.clone(), true));
            }
        });
        Self {
            address,
            way: sender,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send(way).unwrap();
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    is_answers: bool,
) {
    let mut buffer = vec![0; 65536];
    loop {
        tokio::select! {
            read = from.read(&mut buffer) => {
                let Ok(len @ 1..) = read else { return };
                let now = *way.borrow();
                match now {
                    Way::Mute if is_answers => {}
                    Way::Open | Way::Mute => if to.write_all(&buffer[..len]).await.is_err() { return },
                    // Swallowed: what comes later on this connection would be nonsense, but nothing does.
                    Way::Silent => {}
                    Way::Garbage => {
                        let noise: Vec<u8> = buffer[..len].iter().map(|byte| byte ^ 0x5a).collect();
                        if to.write_all(&noise).await.is_err() { return }
                    }
                    Way::Closed => return,
                }
            }
            changed = way.changed() => {
                if changed.is_err() || *way.borrow() == Way::Closed {
                    return;
                }
            }
        }
    }
}
