//! Socket activation: the test holds the listening sockets, before, between and after the gateways that serve on them.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use command_fds::{CommandFdExt, FdMapping};
use tidegate_tests::client::{Client, LINGER, RawClient, get};
use tidegate_tests::gateway::{ConfigFile, StartingGateway, TestGateway};
use tidegate_tests::origin::Origin;

/// A listening socket of the supervisor.
fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

fn handed(socket: impl Into<OwnedFd>) -> OwnedFd {
    socket.into()
}

/// A copy for one gateway; the supervisor keeps its own.
fn shared(socket: &TcpListener) -> OwnedFd {
    handed(socket.try_clone().expect("a copy"))
}

/// Start a gateway as systemd does for a socket unit: the sockets from descriptor 3 on, and the variables that say so.
fn activated(config: &ConfigFile, count: &str, sockets: Vec<OwnedFd>) -> StartingGateway {
    TestGateway::spawn_as(config, |command| {
        // The process id is known only to the process itself, which then becomes the gateway.
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
        shell.env("LISTEN_FDS", count).env("LISTEN_FDNAMES", "web:admin").env_remove("NOTIFY_SOCKET");
        let mappings = (3..).zip(sockets).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        shell.fd_mappings(mappings.collect()).expect("each number once");
        shell
    })
}

fn config(origin: &Origin, address: SocketAddr) -> ConfigFile {
    ConfigFile::before(origin.address()).server(&format!("listen = '{address}'")).route("/", &[])
}

#[tokio::test]
async fn sockets_that_were_handed_over_are_served_on_in_the_place_of_new_ones() {
    let origin = Origin::start().await;
    let ((web, web_address), (admin, admin_address)) = (socket(), socket());
    // One address is bound by the gateway itself.
    let config = ConfigFile::before(origin.address())
        .server(&format!("listen = ['{web_address}', '127.0.0.1:0']"))
        .admin(&format!("listen = '{admin_address}'"))
        .route("/", &[]);
    // The order is the supervisor's; addresses tell which is which.
    let gateway = activated(&config, "2", vec![shared(&admin), shared(&web)]).ready().await;
    assert_eq!((gateway.address(), gateway.admin()), (web_address, admin_address));
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(Client::http1(admin_address).get("/readyz").await.status, 200);
    assert_eq!(gateway.log().with(&[("message", "listening on the supervisor's socket")]).len(), 2);
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_connection_that_comes_during_the_drain_is_served_by_the_successor() {
    let origin = Origin::start().await;
    let ((web, address), (admin, admin_address)) = (socket(), socket());
    let config = config(&origin, address).admin(&format!("listen = '{admin_address}'"));
    let sockets = || vec![shared(&web), shared(&admin)];
    let mut first = activated(&config, "2", sockets()).ready().await;
    let client = first.client();
    let held = client.send(get("/held", &[("x-origin", "hold")]));
    let handover = async {
        origin.holds(1).await;
        first.terminate();
        first.reaches("draining").await;
        first.until("the listener is left", async || first.log().text().contains("left to the supervisor")).await;
        let before = origin.requests();
        let mut during = RawClient::connect(address).await.expect("the socket is the supervisor's, and open");
        during.send("GET /during HTTP/1.1\r\nhost: test\r\n\r\n").await.expect("sent");
        origin.release();
        let ended = first.wait().await;
        let mut between = RawClient::connect(address).await.expect("open, though nobody serves");
        between.send("GET /between HTTP/1.1\r\nhost: test\r\n\r\n").await.expect("sent");
        assert_eq!((ended.code, origin.requests()), (Some(0), before), "{}", ended.log.text());
        let second = activated(&config, "2", sockets()).ready().await;
        for client in [&mut during, &mut between] {
            assert_eq!(client.reply().await.expect("an answer").status, 200);
        }
        // And everybody who comes now: nothing is left of the first gateway's close.
        assert_eq!(second.get("/after").await.status, 200);
        assert_eq!(Client::http1(admin_address).get("/readyz").await.status, 200);
        assert_eq!(second.stop().await.code, Some(0));
    };
    let (held, ()) = tokio::join!(held, handover);
    assert_eq!(held.status, 200);
}

/// Each request is on a connection of its own. Whoever writes later than [`LINGER`] after connecting may meet the close
/// of an idle connection, and has to ask again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_lose_no_request() {
    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-origin: slow=5\r\n\r\n";
    let origin = Origin::start().await;
    let (web, address) = socket();
    let config = config(&origin, address);
    let over = AtomicBool::new(false);
    let asking = async || {
        let (mut answered, mut again) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            let mut client = RawClient::connect(address).await.expect("always open");
            let sent = client.send(REQUEST).await;
            let late = began.elapsed() > LINGER;
            match sent {
                Ok(()) => match client.reply().await {
                    Ok(reply) => {
                        assert_eq!(reply.status, 200);
                        answered += 1;
                    }
                    Err(_) if late => again += 1,
                    Err(error) => panic!("lost: {error}, sent within {:?}", began.elapsed()),
                },
                Err(_) if late => again += 1,
                Err(error) => panic!("lost: {error}"),
            }
        }
        (answered, again)
    };
    let restarting = async {
        let mut gateway = activated(&config, "1", vec![shared(&web)]).ready().await;
        for _ in 0..5 {
            let before = origin.requests();
            gateway.until("there is a load", async || origin.requests() >= before + 20).await;
            assert_eq!(gateway.stop().await.code, Some(0));
            gateway = activated(&config, "1", vec![shared(&web)]).ready().await;
        }
        over.store(true, Ordering::Relaxed);
        gateway
    };
    let (one, two, three, gateway) = tokio::join!(asking(), asking(), asking(), restarting);
    assert!(one.0 + two.0 + three.0 >= 100, "{one:?} {two:?} {three:?}");
    assert_eq!(gateway.stop().await.code, Some(0));
}

/// The gateway does not start; what it says has these words.
async fn refused(config: &ConfigFile, count: &str, sockets: Vec<OwnedFd>, words: &[&str]) {
    let ended = activated(config, count, sockets).wait().await;
    assert_eq!(ended.code, Some(1), "{}", ended.log.text());
    for word in words {
        assert!(ended.log.text().contains(word), "{word} is not in: {}", ended.log.text());
    }
}

#[tokio::test]
async fn a_socket_that_the_config_does_not_want_keeps_the_gateway_from_starting() {
    let origin = Origin::start().await;
    let ((web, address), (other, other_address)) = (socket(), socket());
    let config = config(&origin, address);
    let named = format!("a socket for {other_address} (admin) was handed over, but the config does not listen there");
    let hint = format!("hint: add \"{other_address}\" to `listen` of [server]");
    refused(&config, "2", vec![shared(&web), shared(&other)], &[&named, &hint]).await;
}

#[tokio::test]
async fn what_is_no_listening_tcp_socket_keeps_the_gateway_from_starting() {
    let origin = Origin::start().await;
    let (web, address) = socket();
    let config = config(&origin, address);
    let no_listener = ["file descriptor 3 (web) is not a listening TCP socket", "hint: in a systemd socket unit"];
    let datagrams = UdpSocket::bind(address).expect("the port is free for UDP");
    refused(&config, "1", vec![handed(datagrams)], &no_listener).await;
    let connected = std::net::TcpStream::connect(address).expect("a connection");
    refused(&config, "1", vec![handed(connected)], &no_listener).await;
    let file = std::fs::File::open("/dev/null").expect("it is there");
    refused(&config, "1", vec![handed(file)], &no_listener).await;
    let not_open = "file descriptor 4 is not open, though LISTEN_FDS promises it";
    refused(&config, "2", vec![shared(&web)], &[not_open]).await;
    refused(&config, "60000", vec![shared(&web)], &[not_open]).await;
    refused(&config, "two", vec![shared(&web)], &["LISTEN_FDS is \"two\", which is no number"]).await;
}

#[tokio::test]
async fn sockets_for_another_process_are_left_alone() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    let gateway = TestGateway::spawn_as(&config, |mut command| {
        command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
        command
    });
    let gateway = gateway.ready().await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.stop().await.code, Some(0));
}
