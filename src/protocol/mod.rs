//! Bytes to requests, replies to bytes.
