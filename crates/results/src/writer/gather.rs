//! Collects the messages that share a sync.
//!
//! While a group is synced, other callers send their messages, and those of the group send their next ones soon after it.
//! Waiting for all of them takes less time than a sync for each part of them.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The wait for the callers that are expected, in relation to the time of the last sync.
const WAIT_MIN: Duration = Duration::from_micros(500);

/// The queue of a thread whose messages share syncs.
#[derive(Debug)]
pub struct Gather<T> {
    queue: Receiver<T>,
    /// Whether a message waits for a sync.
    is_write: fn(&T) -> bool,
    /// The maximum number of messages of a group.
    max: usize,
    /// The maximum wait for the callers that are expected.
    wait_max: Duration,
    queued: Vec<T>,
    /// The number of callers that wait at the same time.
    expected: usize,
    last_sync: Duration,
}

impl<T> Gather<T> {
    pub fn new(queue: Receiver<T>, max: usize, wait_max: Duration, is_write: fn(&T) -> bool) -> Self {
        let (queued, last_sync) = (Vec::new(), Duration::ZERO);
        Self { queue, is_write, max, wait_max, queued, expected: 0, last_sync }
    }

    /// The next messages; none if there are none until `due`. `None` after the last message.
    pub fn next(&mut self, due: Option<Instant>) -> Option<Vec<T>> {
        let mut group = std::mem::take(&mut self.queued);
        if group.is_empty() {
            match self.receive(due) {
                Ok(message) => group.push(message),
                Err(RecvTimeoutError::Timeout) => return Some(group),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        group.extend(self.queue.try_iter().take(self.max.saturating_sub(group.len())));
        let mut writes = self.writes(&group);
        if writes > 0 && writes < self.expected {
            let until = Instant::now() + self.last_sync.clamp(WAIT_MIN, self.wait_max);
            while writes < self.expected && group.len() < self.max {
                let Ok(message) = self.receive(Some(until)) else { break };
                writes += usize::from((self.is_write)(&message));
                group.push(message);
            }
        }
        Some(group)
    }

    fn receive(&self, due: Option<Instant>) -> Result<T, RecvTimeoutError> {
        match due {
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => self.queue.recv_timeout(due.saturating_duration_since(Instant::now())),
        }
    }

    fn writes(&self, messages: &[T]) -> usize {
        messages.iter().filter(|message| (self.is_write)(message)).count()
    }

    /// Notes that a group with this number of writes was synced, before its callers get their replies.
    pub fn synced(&mut self, writes: usize, took: Duration) {
        let room = self.max.saturating_sub(self.queued.len());
        self.queued.extend(self.queue.try_iter().take(room));
        self.expected = writes + self.writes(&self.queued);
        self.last_sync = took;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_group_waits_for_those_that_waited_for_the_last_one() {
        let (sender, queue) = channel();
        let long = Duration::from_secs(60);
        let mut gather = Gather::new(queue, 100, long, |number: &u32| *number > 0);
        sender.send(1).unwrap();
        assert_eq!(gather.next(None), Some(vec![1]), "no other caller is expected");
        (2..=4).for_each(|number| sender.send(number).unwrap());
        gather.synced(1, long);
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            sender.send(0).unwrap();
            sender.send(5).unwrap();
            sender
        });
        assert_eq!(gather.next(None), Some(vec![2, 3, 4, 0, 5]));
        // The wait ends.
        gather.synced(4, Duration::ZERO);
        let sender = late.join().unwrap();
        sender.send(6).unwrap();
        assert_eq!(gather.next(None), Some(vec![6]));
        assert_eq!(gather.next(Some(Instant::now())), Some(vec![]));
        drop(sender);
        assert_eq!(gather.next(None), None);
    }
}
