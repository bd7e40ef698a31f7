//! A worker: a thread with a runtime of its own, which serves its connections and datagram sockets.

use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};
use tracing::{debug, error};

use crate::net::clients::Client;
use crate::net::connection::Connection;
use crate::net::datagram::DatagramServer;
use crate::net::datagram_socket::DatagramSocket;
use crate::net::health::Question;
use crate::net::listen::Accepted;
use crate::net::shared::Shared;
use crate::net::turns::turns;

pub(super) type NewConnection = (Accepted, Arc<Client>);

/// The sources of a worker's requests.
pub(super) struct Incoming {
    pub(super) accepted: mpsc::Receiver<NewConnection>,
    pub(super) datagram_sockets: Vec<DatagramSocket>,
    pub(super) questions: mpsc::Receiver<Question>,
}

/// Starts worker `number`, a thread that serves `incoming` until `stopped` changes.
pub(super) fn start_worker(
    number: usize,
    shared: Arc<Shared>,
    incoming: Incoming,
    stopped: watch::Receiver<()>,
) -> std::io::Result<JoinHandle<()>> {
    // The thread comes first: without it the runtime would have to be dropped here, within another, which panics.
    let (give, given) = std::sync::mpsc::sync_channel(1);
    let worker = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let runtime: Result<tokio::runtime::Runtime, _> = given.recv();
        if let Ok(runtime) = runtime {
            runtime.block_on(run_worker(number, shared, incoming, stopped));
        }
    })?;
    // This fails only if the thread has ended, and joining the thread will tell why.
    let _ = give.send(tokio::runtime::Builder::new_current_thread().enable_io().build()?);
    Ok(worker)
}

async fn run_worker(
    number: usize,
    shared: Arc<Shared>,
    incoming: Incoming,
    mut stopped: watch::Receiver<()>,
) {
    let Incoming { mut accepted, datagram_sockets, mut questions } = incoming;
    for socket in datagram_sockets {
        let endpoint = socket.endpoint();
        match DatagramServer::new(socket, number, Arc::clone(&shared)) {
            Ok(server) => drop(tokio::spawn(server.serve())),
            Err(error) => error!("cannot serve datagrams on {endpoint}: {error}"),
        }
    }
    let (turns, schedulers) = turns();
    let turns = Arc::new(turns);
    let mut scheduling = pin!(schedulers.run());
    loop {
        let (accepted, client) = tokio::select! {
            Some(handed) = accepted.recv() => handed,
            Some(question) = questions.recv() => {
                // Whoever asked may have given up waiting.
                let _ = question.send(());
                continue;
            }
            _ = stopped.changed() => return,
            () = &mut scheduling => return, // never: `turns` keeps the queues open
        };
        let protocol = accepted.spoken.protocol;
        match shared.stream(accepted) {
            Ok(stream) => {
                let session = shared.engine.session(number).with_descriptor(client.descriptor).patient();
                let session =
                    if let Some(protocol) = protocol { session.speaking(protocol) } else { session };
                shared.engine.log_opened(&session, || client.remote(), shared.clock.now());
                let connection = Connection::new(
                    stream,
                    session,
                    Arc::clone(&client),
                    Arc::clone(&shared),
                    Arc::clone(&turns),
                );
                // The task runs on this thread, so it cannot end before its client is registered.
                let task = tokio::spawn(connection.serve());
                shared.clients.insert(client, task.abort_handle());
            }
            Err(error) => {
                debug!(client = %client, %error, "cannot register the socket of a connection");
                shared.closed(&client);
            }
        }
    }
}
