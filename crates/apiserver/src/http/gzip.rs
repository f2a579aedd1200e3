//! A body compressed while it is sent; at no time is more than one block of output held.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body::Frame;

use super::reply::BoxError;

/// Output handed on at once.
const BLOCK: usize = 32 << 10;

pub struct GzipBody<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I: Iterator<Item = Bytes> + Unpin> GzipBody<I> {
    pub fn new(pieces: I) -> Self {
        // The fastest level, as upstream uses: the network is rarely slower than the processor here.
        Self { pieces, encoder: Some(GzEncoder::new(Vec::with_capacity(BLOCK), Compression::fast())) }
    }

    fn block(&mut self) -> std::io::Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        for piece in self.pieces.by_ref() {
            encoder.write_all(&piece)?;
            if encoder.get_ref().len() >= BLOCK {
                return Ok(Some(Bytes::from(std::mem::take(encoder.get_mut()))));
            }
        }
        let rest = self.encoder.take().map(GzEncoder::finish).transpose()?;
        Ok(rest.map(Bytes::from))
    }
}

impl<I: Iterator<Item = Bytes> + Unpin> http_body::Body for GzipBody<I> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.block().map_err(BoxError::from).transpose().map(|block| block.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let pieces: Vec<Bytes> =
            (0..20_000_u32).map(|i| Bytes::from(format!("{}", i.wrapping_mul(2_654_435_761)))).collect();
        let mut body = GzipBody::new(pieces.clone().into_iter());
        let mut packed = Vec::new();
        while let Some(block) = body.block().expect("compresses") {
            packed.extend_from_slice(&block);
        }
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("decompresses");
        assert_eq!(unpacked, pieces.concat());
    }
}
