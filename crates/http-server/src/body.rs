//! A response body that records progress and splits large chunks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body as AxumBody, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::activity::Activity;
use crate::clients::OpenRequest;

/// The maximum size of a chunk, in bytes: HTTP/2 keeps a chunk in memory until the client accepts it.
const PIECE: usize = 64 << 10;

/// The body of a response of an open request.
#[derive(Debug)]
pub(crate) struct TrackedBody {
    inner: AxumBody,
    /// The part of the last chunk that has not been sent.
    rest: Bytes,
    activities: Vec<Arc<Activity>>,
    _request: Option<OpenRequest>,
}

impl TrackedBody {
    pub(crate) fn new(inner: AxumBody, activities: Vec<Arc<Activity>>, request: Option<OpenRequest>) -> Self {
        Self { inner, rest: Bytes::new(), activities, _request: request }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    /// The server polls for a chunk when the client has accepted the previous one. So each call is progress, even if it
    /// returns no chunk: an event stream is polled repeatedly while it has none.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        for activity in &self.activities {
            activity.touch();
        }
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.inner.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_chunks_are_split() {
        let activity = Arc::new(Activity::new());
        let whole = Bytes::from(vec![7; 3 * PIECE + 5]);
        let mut body = TrackedBody::new(AxumBody::from(whole.clone()), vec![activity], None);
        let mut seen = Vec::new();
        loop {
            assert_eq!(body.size_hint().exact(), Some((whole.len() - seen.len()) as u64));
            assert_eq!(body.is_end_stream(), seen.len() == whole.len());
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let Some(frame) = frame else { break };
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE);
            seen.extend(data);
        }
        assert_eq!(seen, whole);
    }
}
