//! The errors that clients and rooms are answered by (RFC 6120 §8.3).

use crate::decision::Condition;

pub(crate) const TOO_MANY: Condition = Condition {
    kind: "wait",
    name: "resource-constraint",
    text: "Your account is in as many rooms as it may be; leave one first",
};
pub(crate) const SILENT: Condition =
    Condition { kind: "wait", name: "remote-server-timeout", text: "The room did not answer" };
pub(crate) const NOT_IN: Condition = Condition {
    kind: "cancel",
    name: "item-not-found",
    text: "You are not currently connected to this chat",
};
pub(crate) const CLIENT_GONE: Condition =
    Condition { kind: "wait", name: "recipient-unavailable", text: "The client that was asked is gone" };
pub(crate) const BUSY: Condition = Condition {
    kind: "wait",
    name: "resource-constraint",
    text: "Too many requests are waiting for their answers",
};
