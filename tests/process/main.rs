//! The process as an operator meets it: start, limits, sockets, signals, exit codes, messages.

mod abuse;
#[path = "../tls/mod.rs"]
mod certificates;
mod connections;
mod container;
mod environments;
mod few_addresses;
mod healthcheck;
mod http;
mod login;
mod memory;
mod memory_there_is;
#[path = "../needs/mod.rs"]
mod needs;
mod network;
mod privileges;
mod protected;
mod sasl;
mod server;
mod start;
mod systemd;
mod tls;
mod ttl;
mod udp;
mod unusual_certificates;
mod watching;
