//! What waits to be said to the cloud and what waits for its answer. Pure: the session asks with the present time.
//! Reports survive a lost connection until they are answered; questions do not.

use super::ReportKey;
use crate::wire::{Answer, MessageId, Up, encode_up};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Reports that may wait; beyond that user messages are given up, and only without any the oldest report.
const ROOM: usize = 4096;
/// Reports that may be unanswered at a time.
const WINDOW: usize = 256;
/// Questions that may wait or be unanswered.
const QUESTIONS: usize = 1024;
/// An unanswered report is sent again after so long.
const RESEND_AFTER: Duration = Duration::from_secs(60);

struct Report {
    up: Up,
    confirmed: Option<oneshot::Sender<Answer>>,
}

struct Flight {
    key: ReportKey,
    report: Report,
    due: Instant,
    /// A newer report of the same key has been sent since.
    superseded: bool,
}

impl Flight {
    /// Whether nobody waits for the answer.
    fn is_unattended(&self) -> bool {
        self.report.confirmed.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// Whether the cloud could not take it for now, mostly because its Kubernetes API is away.
fn is_temporary(answer: &Answer) -> bool {
    matches!(answer, Answer::Failed(status) if status.code == 0 || status.code == 429 || status.code >= 500)
}

/// The reports and questions of one uplink.
#[derive(Default)]
pub(super) struct Book {
    waiting: HashMap<ReportKey, Report>,
    order: VecDeque<ReportKey>,
    flights: HashMap<MessageId, Flight>,
    questions: VecDeque<(Up, oneshot::Sender<Answer>)>,
    asked: HashMap<MessageId, oneshot::Sender<Answer>>,
    given_up: u64,
}

impl Book {
    /// Takes a report; it replaces an unsent one of the same key, whose asker learns that by its closed channel.
    pub fn report(&mut self, key: ReportKey, up: Up, confirmed: Option<oneshot::Sender<Answer>>) {
        let report = Report { up, confirmed };
        if let Some(present) = self.waiting.get_mut(&key) {
            *present = report;
            return;
        }
        self.order.push_back(key.clone());
        self.waiting.insert(key, report);
        if self.waiting.len() > ROOM {
            self.give_up();
        }
    }

    /// Makes room for one report. Nobody says a pod's status or a task's result again that was taken once; user messages
    /// are not kept without a cloud either. Searching is quick: in a flood of user messages one of them is near the front.
    fn give_up(&mut self) {
        let is_upload = |key: &ReportKey| {
            self.waiting.get(key).is_some_and(|report| matches!(report.up, Up::Upload { .. }))
        };
        let place = self.order.iter().position(is_upload).unwrap_or(0);
        if let Some(key) = self.order.remove(place) {
            self.waiting.remove(&key);
        }
        if self.given_up == 0 {
            tracing::warn!(
                limit = ROOM,
                "too many reports wait for the cloud; user messages are given up first"
            );
        }
        self.given_up += 1;
    }

    /// Takes a question; dropped, which its asker notices, when too many are open.
    pub fn ask(&mut self, up: Up, answer: oneshot::Sender<Answer>) {
        if self.questions.len() + self.asked.len() < QUESTIONS {
            self.questions.push_back((up, answer));
        }
    }

    /// Whether [`Book::next`] has something to send.
    pub fn is_ready(&self) -> bool {
        !self.questions.is_empty() || (!self.order.is_empty() && self.flights.len() < WINDOW)
    }

    /// The message to send now; questions go first.
    pub fn next(&mut self, now: Instant) -> Option<String> {
        while let Some((up, answer)) = self.questions.pop_front() {
            if answer.is_closed() {
                continue;
            }
            if let Some(envelope) = encode_up(&up) {
                self.asked.insert(envelope.header.msg_id.clone(), answer);
                return Some(envelope.encode());
            }
        }
        while self.flights.len() < WINDOW {
            let key = self.order.pop_front()?;
            let Some(report) = self.waiting.remove(&key) else { continue };
            let Some(envelope) = encode_up(&report.up) else { continue };
            if report.up.expects_answer() {
                for flight in self.flights.values_mut().filter(|flight| flight.key == key) {
                    flight.superseded = true;
                }
                let flight = Flight { key, report, due: now + RESEND_AFTER, superseded: false };
                self.flights.insert(envelope.header.msg_id.clone(), flight);
            }
            return Some(envelope.encode());
        }
        None
    }

    /// Hands an answer to whoever waits for it; `false` when nobody does.
    pub fn answered(&mut self, id: &MessageId, answer: Answer) -> bool {
        let waiting = match self.asked.remove(id) {
            Some(asker) => Some(asker),
            // Nobody would hear of it and say it again: it stays and is sent again when it is due.
            None if is_temporary(&answer) && self.flights.get(id).is_some_and(Flight::is_unattended) => {
                return true;
            }
            None => match self.flights.remove(id) {
                Some(flight) => flight.report.confirmed,
                None => return false,
            },
        };
        if let Some(asker) = waiting {
            // Whoever asked may have given up meanwhile.
            drop(asker.send(answer));
        }
        true
    }

    /// Queues reports again that have been unanswered for long, and forgets questions that nobody waits for.
    pub fn refresh(&mut self, now: Instant) {
        self.asked.retain(|_, asker| !asker.is_closed());
        let due: Vec<MessageId> =
            self.flights.iter().filter(|(_, flight)| flight.due <= now).map(|(id, _)| id.clone()).collect();
        self.requeue(due);
    }

    /// The connection is lost: unanswered reports wait again, questions are dropped.
    pub fn disconnected(&mut self) {
        self.questions.clear();
        self.asked.clear();
        let all = self.flights.keys().cloned().collect();
        self.requeue(all);
    }

    /// Puts flights back, oldest in front, unless a newer report of their key exists.
    fn requeue(&mut self, ids: Vec<MessageId>) {
        let mut flights: Vec<Flight> = ids.iter().filter_map(|id| self.flights.remove(id)).collect();
        flights.sort_by_key(|flight| std::cmp::Reverse(flight.due));
        for Flight { key, report, superseded, .. } in flights {
            if !superseded && !self.waiting.contains_key(&key) {
                self.order.push_front(key.clone());
                self.waiting.insert(key, report);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> ReportKey {
        ReportKey(name.to_owned())
    }

    fn patch(name: &str, patch: &str) -> Up {
        Up::PodPatch { namespace: "default".to_owned(), name: name.to_owned(), patch: patch.to_owned() }
    }

    fn read(text: &str) -> (MessageId, String) {
        let envelope = crate::wire::Envelope::decode(text.as_bytes()).unwrap();
        (envelope.header.msg_id, envelope.content.as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn the_latest_report_wins_while_unsent() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.report(key("a"), patch("a", "1"), None);
        book.report(key("a"), patch("a", "2"), None);
        assert_eq!(read(&book.next(now).unwrap()).1, "2");
        assert_eq!(book.next(now), None);
    }

    #[test]
    fn unanswered_reports_are_sent_again_after_a_reconnect() {
        let (mut book, now) = (Book::default(), Instant::now());
        let (sender, mut receiver) = oneshot::channel();
        book.report(key("a"), patch("a", "1"), Some(sender));
        let (first, _) = read(&book.next(now).unwrap());
        book.disconnected();
        assert!(!book.answered(&first, Answer::Ok));
        let (second, content) = read(&book.next(now).unwrap());
        assert_eq!(content, "1");
        assert!(book.answered(&second, Answer::Ok));
        assert_eq!(receiver.try_recv().unwrap(), Answer::Ok);
        book.disconnected();
        assert!(!book.is_ready());
    }

    #[test]
    fn an_old_report_never_follows_a_newer_one() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.report(key("a"), patch("a", "1"), None);
        drop(book.next(now));
        book.report(key("a"), patch("a", "2"), None);
        drop(book.next(now));
        book.disconnected();
        assert_eq!(read(&book.next(now).unwrap()).1, "2");
        assert_eq!(book.next(now), None);
    }

    #[test]
    fn questions_fail_when_the_connection_is_lost() {
        let (mut book, now) = (Book::default(), Instant::now());
        let (sender, mut receiver) = oneshot::channel();
        book.ask(patch("a", "1"), sender);
        assert!(book.next(now).is_some());
        book.disconnected();
        assert_eq!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn what_needs_no_answer_is_done_once_sent() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.report(key("a"), upload("p"), None);
        assert!(book.next(now).is_some());
        book.disconnected();
        assert!(!book.is_ready());
    }

    fn upload(payload: &str) -> Up {
        Up::Upload { topic: "t".to_owned(), payload: payload.to_owned() }
    }

    #[test]
    fn a_flood_of_user_messages_evicts_nothing_else() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.report(key("p"), patch("p", "1"), None);
        for number in 0..5000 {
            book.report(key(&format!("upload/{number}")), upload("m"), None);
        }
        let mut sent = Vec::new();
        while let Some(text) = book.next(now) {
            sent.push(read(&text).1);
        }
        assert_eq!((sent.len(), sent[0].as_str()), (ROOM, "1"));
    }

    #[test]
    fn without_user_messages_the_oldest_report_goes() {
        let (mut book, now) = (Book::default(), Instant::now());
        for number in 0..=ROOM {
            book.report(key(&format!("p{number}")), patch("p", &number.to_string()), None);
        }
        // A user message makes nothing else go: it is the first that is given up.
        book.report(key("upload/1"), upload("m"), None);
        assert_eq!(book.waiting.len(), ROOM);
        assert!(!book.waiting.contains_key(&key("upload/1")));
        assert_eq!(read(&book.next(now).unwrap()).1, "1");
    }

    proptest! {
        #[test]
        fn the_last_report_of_every_key_is_answered(steps in proptest::collection::vec((0u8..3, 0u8..5), 1..60)) {
            let (mut book, mut now) = (Book::default(), Instant::now());
            let (mut last, mut answered) = (HashMap::new(), HashMap::new());
            let mut sent = VecDeque::new();
            for (count, (name, action)) in steps.into_iter().enumerate() {
                let name = format!("k{name}");
                match action {
                    0 | 1 => {
                        last.insert(name.clone(), count.to_string());
                        book.report(key(&name), patch(&name, &count.to_string()), None);
                    }
                    2 => { sent.clear(); book.disconnected() }
                    3 => { now += RESEND_AFTER; book.refresh(now) }
                    _ => sent.extend(book.next(now).map(|text| (name, text))),
                }
            }
            sent.clear();
            book.disconnected();
            while let Some(text) = book.next(now) {
                let (id, content) = read(&text);
                let envelope = crate::wire::Envelope::decode(text.as_bytes()).unwrap();
                let name = envelope.route.resource.rsplit('/').next().unwrap().to_owned();
                prop_assert!(answered.insert(name, content).is_none());
                prop_assert!(book.answered(&id, Answer::Ok));
            }
            // Without an answer every key's last report is still there.
            prop_assert_eq!(answered, last);
        }
    }
}
