//! One client's connection: log in, resume, then send what is put into its outbox and hand on what comes in, counting
//! as XEP-0198 has it. Knows nothing of what the messages are for; scenarios do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::scan::{Element, Scanner};

const XMLNS_SM: &str = "urn:xmpp:sm:3";

/// Why a client's connection ended, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server ended the stream with an error, as it does when it is stopped.
    #[error("the server ended the stream: {0}")]
    Ended(String),
    /// The server did not get on with a log-in.
    #[error("the log-in was not through after {0} seconds")]
    Slow(u64),
    /// The server said something that this client has no answer to.
    #[error("the server was expected to {0}, but sent {1}")]
    Unexpected(&'static str, String),
    /// An `<a/>` for more than was sent.
    #[error("the server acknowledged {h} of {sent} stanzas")]
    TooHigh {
        /// What it acknowledged.
        h: u32,
        /// How many there were.
        sent: u32,
    },
}

/// Where to log in.
#[derive(Clone, Debug)]
pub struct Target {
    /// Of the server's client port, without TLS.
    pub address: SocketAddr,
    /// The XMPP domain.
    pub host: String,
    /// Of every account.
    pub password: String,
    /// Whether to enable stream management.
    pub managed: Managed,
    /// Ask for an ack after so many stanzas; 0: never.
    pub ask_every: u32,
    /// For a log-in or a resumption.
    pub patience: Duration,
}

impl Target {
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        timeout(self.patience, work).await.unwrap_or(Err(Error::Slow(self.patience.as_secs())))
    }
}

/// What a client asks of XEP-0198.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// No stream management.
    No,
    /// Acks only.
    Acks,
    /// Acks and resumption.
    Resumable,
}

/// Bytes that crossed the wire, above TCP.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the server.
    pub received: Cell<u64>,
    /// To the server.
    pub sent: Cell<u64>,
}

impl Traffic {
    /// Both ways.
    pub fn total(&self) -> u64 {
        self.received.get() + self.sent.get()
    }
}

/// What is to be sent, with where each stanza in it ends: what is not a stanza is not counted.
#[derive(Debug, Default)]
pub struct Out {
    bytes: Vec<u8>,
    /// The end of each stanza in `bytes`, its length and its tag.
    stanzas: Vec<(usize, usize, u32)>,
}

impl Out {
    /// A stanza; `tag` is what [`Event::Handled`] will give back.
    pub fn stanza(&mut self, tag: u32, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.stanzas.push((self.bytes.len(), bytes.len(), tag));
    }

    /// Something that does not count.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn append(&mut self, other: &mut Out) {
        let offset = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        self.stanzas.extend(other.stanzas.drain(..).map(|(end, length, tag)| (end + offset, length, tag)));
    }
}

/// How others reach a client that is in [`Session::run`].
#[derive(Debug, Default)]
pub struct Outbox {
    out: RefCell<Out>,
    cut: Cell<bool>,
    close: Cell<bool>,
    wake: Notify,
}

impl Outbox {
    /// Has `fill` put something into what will be sent next.
    pub fn send(&self, fill: impl FnOnce(&mut Out)) {
        fill(&mut self.out.borrow_mut());
        self.wake.notify_one();
    }

    /// Puts stanzas before what waits to be sent.
    pub fn send_first(&self, stanzas: impl IntoIterator<Item = (u32, Vec<u8>)>) {
        let mut first = Out::default();
        for (tag, bytes) in stanzas {
            first.stanza(tag, &bytes);
        }
        let mut out = self.out.borrow_mut();
        first.append(&mut out);
        *out = first;
    }

    /// Ends the session as a client that goes off-line does: it acknowledges what it has and closes the stream.
    pub fn close(&self) {
        self.close.set(true);
        self.wake.notify_one();
    }

    /// Drops the connection without a word, as a lost network does.
    pub fn cut(&self) {
        self.cut.set(true);
        self.wake.notify_one();
    }
}

/// The client's half of XEP-0198. Counters have 32 bits and wrap (§4).
#[derive(Debug, Default)]
pub struct Management {
    /// With which to resume, if the server offers that.
    pub id: Option<String>,
    /// Stanzas from the server.
    pub received: u32,
    sent: u32,
    acked: u32,
    asked_at: u32,
    /// Sent and not acknowledged: tag and bytes.
    unacked: VecDeque<(u32, Vec<u8>)>,
}

impl Management {
    /// What has to be sent anew when the session is lost: tag and bytes.
    pub fn into_unacked(self) -> VecDeque<(u32, Vec<u8>)> {
        self.unacked
    }

    fn note_sent(&mut self, out: &Out) {
        for &(end, length, tag) in &out.stanzas {
            self.sent = self.sent.wrapping_add(1);
            self.unacked.push_back((tag, out.bytes[end - length..end].to_vec()));
        }
    }

    /// An `h` from the server. Returns how many more it covers.
    fn acknowledged(&mut self, h: u32, mut handled: impl FnMut(u32)) -> Result<u32, Error> {
        let more = h.wrapping_sub(self.acked);
        if more > self.sent.wrapping_sub(self.acked) {
            return Err(Error::TooHigh { h, sent: self.sent });
        }
        for (tag, _) in self.unacked.drain(..(more as usize).min(self.unacked.len())) {
            handled(tag);
        }
        self.acked = h;
        Ok(more)
    }

    /// Whether it is time to ask.
    fn asks(&mut self, every: u32) -> bool {
        let due = every > 0 && self.sent.wrapping_sub(self.asked_at) >= every;
        if due {
            self.asked_at = self.sent;
        }
        due
    }
}

/// What a client is told of what comes in.
pub enum Event<'a> {
    /// A message, presence or iq.
    Stanza(Element<'a>),
    /// The server said of the stanza with this tag that it is handled.
    Handled(u32),
    /// The server sent `<r/>`. It is answered unless [`Session::mute`] is set.
    Asked,
}

/// The bytes of a connection.
struct Stream {
    socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    scanner: Scanner,
    traffic: Rc<Traffic>,
}

impl Stream {
    async fn connect(target: &Target, traffic: Rc<Traffic>) -> Result<Stream, Error> {
        let socket = TcpStream::connect(target.address).await?;
        socket.set_nodelay(true)?;
        Ok(Stream {
            socket,
            buffer: Vec::with_capacity(32768),
            start: 0,
            scanner: Scanner::default(),
            traffic,
        })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.traffic.sent.set(self.traffic.sent.get() + bytes.len() as u64);
        Ok(self.socket.write_all(bytes).await?)
    }

    /// Reads once. May be cancelled.
    async fn fill(&mut self) -> Result<(), Error> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 65536 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(16384);
        let n = self.socket.read_buf(&mut self.buffer).await?;
        self.traffic.received.set(self.traffic.received.get() + n as u64);
        if n == 0 { Err(Error::Closed) } else { Ok(()) }
    }

    /// The next whole element of what was read.
    fn take(&mut self) -> Option<Range<usize>> {
        let length = self.scanner.next(&self.buffer[self.start..])?;
        let start = self.start;
        self.start += length;
        Some(start..self.start)
    }

    fn element(&self, range: Range<usize>) -> Element<'_> {
        Element::new(&self.buffer[range])
    }

    /// The next element, during the hand-shake.
    async fn next(&mut self) -> Result<Range<usize>, Error> {
        loop {
            if let Some(range) = self.take() {
                return Ok(range);
            }
            self.fill().await?;
        }
    }

    /// Skips to an element with one of these names.
    async fn expect(&mut self, what: &'static str, names: &[&[u8]]) -> Result<Range<usize>, Error> {
        loop {
            let range = self.next().await?;
            let name = self.element(range.clone()).name();
            if names.contains(&name) {
                return Ok(range);
            }
            if name == b"stream:error" {
                return Err(Error::Ended(self.element(range).to_string()));
            }
            if !matches!(name, b"?xml" | b"stream:stream" | b"presence" | b"message" | b"iq" | b"r") {
                return Err(Error::Unexpected(what, self.element(range).to_string()));
            }
        }
    }

    async fn open(&mut self, target: &Target) -> Result<(), Error> {
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
             to='{}' version='1.0'>",
            target.host
        );
        self.write(header.as_bytes()).await?;
        self.expect("open the stream", &[b"stream:features"]).await?;
        Ok(())
    }

    /// Up to where one binds or resumes.
    async fn authenticate(&mut self, target: &Target, user: &str) -> Result<(), Error> {
        self.open(target).await?;
        let response = BASE64_STANDARD.encode(format!("\0{user}\0{}", target.password));
        let auth =
            format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>");
        self.write(auth.as_bytes()).await?;
        self.expect("accept the password", &[b"success"]).await?;
        self.open(target).await
    }
}

/// A client that is logged in.
pub struct Session {
    stream: Stream,
    /// Its stream management, if it has that.
    pub management: Option<Management>,
    /// Whether `<r/>` stays without an answer.
    pub mute: bool,
    ask_every: u32,
}

/// How a `<resume/>` ended.
pub enum Resumption {
    /// The session goes on. What was not acknowledged has been sent again.
    Resumed(Session),
    /// The session is lost; this is a new one. What was not acknowledged has not been sent again.
    Fresh(Session, VecDeque<(u32, Vec<u8>)>),
}

impl Session {
    /// Logs in.
    pub async fn login(
        target: &Target,
        user: &str,
        resource: &str,
        traffic: &Rc<Traffic>,
    ) -> Result<Session, Error> {
        let entering = async {
            let mut stream = Stream::connect(target, Rc::clone(traffic)).await?;
            stream.authenticate(target, user).await?;
            Self::bind(stream, target, resource).await
        };
        target.in_time(entering).await
    }

    async fn bind(mut stream: Stream, target: &Target, resource: &str) -> Result<Session, Error> {
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        );
        stream.write(bind.as_bytes()).await?;
        let bound = stream.expect("bind the resource", &[b"iq"]).await?;
        let bound = stream.element(bound);
        if bound.attribute(b"type") != Some(b"result") {
            return Err(Error::Unexpected("bind the resource", bound.to_string()));
        }
        let mut management = None;
        if target.managed != Managed::No {
            let resume = if target.managed == Managed::Resumable { " resume='true'" } else { "" };
            stream.write(format!("<enable xmlns='{XMLNS_SM}'{resume}/>").as_bytes()).await?;
            let enabled = stream.expect("enable stream management", &[b"enabled"]).await?;
            let id = stream.element(enabled).attribute(b"id");
            let id = id.map(|id| String::from_utf8_lossy(id).into_owned());
            management = Some(Management { id, ..Management::default() });
        }
        Ok(Session { stream, management, mute: false, ask_every: target.ask_every })
    }

    /// Resumes an earlier session, or logs in anew if that cannot be. `previous` is left empty unless this fails
    /// before the server has answered.
    pub async fn resume(
        target: &Target,
        user: &str,
        resource: &str,
        traffic: &Rc<Traffic>,
        previous: &mut Management,
        mut handled: impl FnMut(u32),
    ) -> Result<Resumption, Error> {
        let entering = async {
            let mut stream = Stream::connect(target, Rc::clone(traffic)).await?;
            stream.authenticate(target, user).await?;
            let resume = format!(
                "<resume xmlns='{XMLNS_SM}' previd='{}' h='{}'/>",
                previous.id.as_deref().unwrap_or(""),
                previous.received
            );
            stream.write(resume.as_bytes()).await?;
            let answer = stream.expect("answer the resumption", &[b"resumed", b"failed"]).await?;
            let answer = stream.element(answer);
            let h = answer.number(b"h", b"");
            if answer.name() == b"failed" {
                if let Some(h) = h {
                    previous.acknowledged(h, &mut handled)?;
                }
                let session = Self::bind(stream, target, resource).await?;
                return Ok(Resumption::Fresh(session, std::mem::take(previous).into_unacked()));
            }
            let Some(h) = h else { return Err(Error::Unexpected("say h", answer.to_string())) };
            previous.acknowledged(h, &mut handled)?;
            let again: Vec<u8> = previous.unacked.iter().flat_map(|(_, bytes)| bytes).copied().collect();
            if !again.is_empty() {
                // From here on the session is the new connection's, also if it breaks at once.
                let asked = format!("<r xmlns='{XMLNS_SM}'/>");
                stream.write(&[&again, asked.as_bytes()].concat()).await?;
            }
            let management = Some(std::mem::take(previous));
            Ok(Resumption::Resumed(Session { stream, management, mute: false, ask_every: target.ask_every }))
        };
        target.in_time(entering).await
    }

    /// Runs the session until its connection ends. `on` is told of what comes in and may answer.
    pub async fn run(
        &mut self,
        outbox: &Outbox,
        mut on: impl FnMut(Event<'_>, &mut Out),
    ) -> Result<(), Error> {
        let (mut out, mut leaving) = (Out::default(), false);
        loop {
            while let Some(range) = self.stream.take() {
                let element = self.stream.element(range);
                match element.name() {
                    b"message" | b"presence" | b"iq" => {
                        if let Some(management) = &mut self.management {
                            management.received = management.received.wrapping_add(1);
                        }
                        on(Event::Stanza(element), &mut out);
                    }
                    b"r" => {
                        on(Event::Asked, &mut out);
                        if let (Some(management), false) = (&self.management, self.mute) {
                            out.raw(
                                format!("<a xmlns='{XMLNS_SM}' h='{}'/>", management.received).as_bytes(),
                            );
                        }
                    }
                    b"a" => {
                        let h = element.number(b"h", b"");
                        if let (Some(management), Some(h)) = (&mut self.management, h) {
                            management.acknowledged(h, |tag| on(Event::Handled(tag), &mut out))?;
                        }
                    }
                    b"?xml" | b"stream:stream" | b"stream:features" => {}
                    b"/stream:stream" if leaving => return Ok(()),
                    b"/stream:stream" => return Err(Error::Closed),
                    b"stream:error" => return Err(Error::Ended(element.to_string())),
                    _ => return Err(Error::Unexpected("send stanzas", element.to_string())),
                }
            }
            if outbox.cut.replace(false) {
                return Ok(());
            }
            out.append(&mut outbox.out.borrow_mut());
            if outbox.close.replace(false) {
                if let Some(management) = &self.management {
                    out.raw(format!("<a xmlns='{XMLNS_SM}' h='{}'/>", management.received).as_bytes());
                }
                out.raw(b"</stream:stream>");
                leaving = true;
            }
            if !out.bytes.is_empty() {
                if let Some(management) = &mut self.management {
                    management.note_sent(&out);
                    if management.asks(self.ask_every) {
                        out.raw(format!("<r xmlns='{XMLNS_SM}'/>").as_bytes());
                    }
                }
                self.stream.write(&out.bytes).await?;
                out.bytes.clear();
                out.stanzas.clear();
            }
            tokio::select! {
                filled = self.stream.fill() => filled?,
                () = outbox.wake.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Management, Out};

    fn sent(n: u32) -> Management {
        let (mut management, mut out) = (Management::default(), Out::default());
        for tag in 0..n {
            out.stanza(tag, format!("<message id='{tag}'/>").as_bytes());
            out.raw(b"<r/>");
        }
        management.note_sent(&out);
        management
    }

    #[test]
    fn what_is_acknowledged_is_told_by_tag_and_not_sent_again() {
        let mut management = sent(5);
        let mut handled = Vec::new();
        assert_eq!(management.acknowledged(3, |tag| handled.push(tag)).unwrap(), 3);
        assert_eq!(handled, [0, 1, 2]);
        assert_eq!(management.acknowledged(3, |_| panic!("nothing more")).unwrap(), 0);
        assert_eq!(
            management.into_unacked(),
            [(3, b"<message id='3'/>".to_vec()), (4, b"<message id='4'/>".to_vec())]
        );
    }

    #[test]
    fn an_ack_of_more_than_was_sent_is_an_error() {
        let mut management = sent(2);
        assert!(management.acknowledged(3, |_| ()).is_err());
        management.acknowledged(2, |_| ()).unwrap();
        assert!(management.acknowledged(1, |_| ()).is_err(), "it cannot be taken back");
    }

    #[test]
    fn counters_wrap() {
        let mut management = sent(4);
        management.acked = u32::MAX - 1;
        management.sent = 2;
        assert_eq!(management.acknowledged(1, |_| ()).unwrap(), 3);
        assert_eq!(management.unacked.len(), 1);
    }

    #[test]
    fn it_asks_once_per_batch() {
        let mut management = sent(5);
        assert!(!management.asks(0));
        assert!(!management.asks(6));
        assert!(management.asks(5));
        assert!(!management.asks(5));
    }
}
