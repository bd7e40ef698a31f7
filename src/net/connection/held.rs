//! The input that a connection holds: in a buffer of its own or, while a long value arrives, in a block lent by the
//! store, which then becomes the value's.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::buf::Limit;
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::store::{Offer, Upload};

/// Input that no turn has consumed.
#[derive(Debug)]
pub(super) enum Held {
    Buffer(BytesMut),
    /// The beginning of a long request.
    Block(Upload),
}

/// Where a read of a long request goes, as many bytes as it may bring.
pub(super) enum LongBuffer<'a> {
    Buffer(Limit<&'a mut BytesMut>),
    /// What is read is to be reported to [`Held::arrived`].
    Block(&'a mut [u8]),
}

impl LongBuffer<'_> {
    /// How many bytes a read may bring.
    pub(super) fn len(&self) -> usize {
        match self {
            LongBuffer::Buffer(buffer) => buffer.limit(),
            LongBuffer::Block(free) => free.len(),
        }
    }

    /// Reads from `stream`; says how many bytes came.
    pub(super) fn poll_read(
        self,
        mut stream: impl AsyncRead + Unpin,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            LongBuffer::Buffer(mut buffer) => pin!(stream.read_buf(&mut buffer)).poll(cx),
            LongBuffer::Block(free) => {
                let mut buffer = ReadBuf::new(free);
                pin!(stream).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            }
        }
    }
}

impl Default for Held {
    fn default() -> Held {
        Held::Buffer(BytesMut::new())
    }
}

impl Held {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Held::Buffer(buffer) => buffer,
            Held::Block(upload) => upload.bytes(),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// How many bytes it may hold without growing.
    #[inline]
    pub(super) fn capacity(&self) -> usize {
        match self {
            Held::Buffer(buffer) => buffer.capacity(),
            Held::Block(upload) => upload.capacity(),
        }
    }

    /// How many more bytes it takes without growing.
    pub(super) fn free_bytes(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Holds `bytes` instead, in a buffer.
    pub(super) fn set(&mut self, bytes: &[u8]) {
        match self {
            Held::Buffer(buffer) => {
                buffer.clear();
                buffer.extend_from_slice(bytes);
            }
            Held::Block(_) => *self = Held::Buffer(bytes.into()),
        }
    }

    /// Holds `bytes` besides, in a buffer.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.move_to_buffer(0);
        if let Held::Buffer(buffer) = self {
            buffer.extend_from_slice(bytes);
        }
    }

    /// Drops the first `bytes` bytes. A buffer that is empty then stays as long as it was, for a long request that may
    /// come right behind this one.
    pub(super) fn consume(&mut self, bytes: usize) {
        match self {
            Held::Buffer(buffer) if bytes == buffer.len() => buffer.clear(),
            Held::Buffer(buffer) => buffer.advance(bytes),
            // A value may have the block.
            Held::Block(_) if bytes > 0 => self.move_to_buffer(bytes),
            Held::Block(_) => {}
        }
    }

    /// Moves what lies in a block to a buffer, but for the first `dropped` bytes.
    fn move_to_buffer(&mut self, dropped: usize) {
        if let Held::Block(upload) = self {
            *self = Held::Buffer(upload.bytes()[dropped..].into());
        }
    }

    /// Shrinks a buffer that is empty, or of which most is free and that is longer than four times `bytes_min`; others
    /// stay, or a long pipeline behind a long request would be copied again after every turn.
    pub(super) fn shrink(&mut self, bytes_min: usize) {
        let len = self.len();
        if len == 0 || self.capacity() / 4 > len.max(bytes_min) {
            *self = Held::Buffer(self.bytes().into());
        }
    }

    /// Makes it `capacity` bytes long for a request of `bytes_min`, in the block that `lend` gives for that, or in a longer
    /// buffer.
    pub(super) fn grow(
        &mut self,
        capacity: usize,
        bytes_min: usize,
        lend: impl FnOnce(usize, usize) -> Option<Upload>,
    ) {
        if let Held::Block(upload) = self
            && upload.reserve(capacity)
        {
            return;
        }
        let held = self.bytes();
        *self = match lend(bytes_min, capacity) {
            Some(mut upload) => {
                upload.free_mut()[..held.len()].copy_from_slice(held);
                upload.advance(held.len());
                Held::Block(upload)
            }
            None => {
                let mut longer = BytesMut::with_capacity(capacity);
                longer.extend_from_slice(held);
                Held::Buffer(longer)
            }
        };
    }

    /// Where a read of up to `bytes` bytes goes; there is as much free.
    pub(super) fn long_buffer(&mut self, bytes: usize) -> LongBuffer<'_> {
        match self {
            Held::Buffer(buffer) => LongBuffer::Buffer(buffer.limit(bytes)),
            Held::Block(upload) => LongBuffer::Block(&mut upload.free_mut()[..bytes]),
        }
    }

    /// A read has brought `bytes` bytes to [`Held::long_buffer`].
    pub(super) fn arrived(&mut self, bytes: usize) {
        if let Held::Block(upload) = self {
            upload.advance(bytes);
        }
    }

    /// While this lives, the value in the block can have it.
    pub(super) fn offer(&self) -> Option<Offer<'_>> {
        match self {
            Held::Buffer(_) => None,
            Held::Block(upload) => Some(upload.offer()),
        }
    }
}
