//! A copy spliced out of a written stanza is the one that would have been written with the other attributes, status codes and JIDs;
//! and no bytes whatever are too odd to be copied.

use crate::read;
use arbitrary::Arbitrary;
use enjamb_stanza::{Attribute, Delay, Splice, Summary, write};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes(Edits<'a>, &'a [u8]),
    Written(Edits<'a>, Element<'a>),
}

#[derive(Arbitrary, Debug)]
struct Edits<'a> {
    to: Edit<'a>,
    from: Edit<'a>,
    id: Edit<'a>,
    without: Vec<u8>,
    with: Vec<u8>,
    complete: bool,
    delay: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Edit<'a> {
    Keep,
    Remove,
    Set(&'a str),
}

impl<'a> Edit<'a> {
    fn attribute(self) -> Attribute<'a> {
        match self {
            Edit::Keep => Attribute::Keep,
            Edit::Remove => Attribute::Remove,
            Edit::Set(value) => Attribute::Set(value),
        }
    }
}

/// The first is the stanza, whatever it is called.
#[derive(Arbitrary, Clone, Debug)]
struct Element<'a> {
    name: u8,
    attributes: Vec<(u8, Value<'a>)>,
    children: Vec<Child<'a>>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Child<'a> {
    Text(&'a str),
    Element(Element<'a>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value<'a> {
    Code(u8),
    Text(&'a str),
    Client,
    Muc,
}

const NAMES: [&str; 6] = ["presence", "x", "status", "item", "delay", "message"];
const KEYS: [&str; 6] = ["xmlns", "to", "from", "id", "code", "jid"];
const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
const DELAY: Delay = Delay { from: "it's@here", stamp: "2026-01-02T03:04:05Z" };
const RESOURCE: &str = "bal'cony";

/// An element that may be changed.
#[derive(Clone, Debug)]
struct Tree {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Tree(Tree),
}

impl Element<'_> {
    fn tree(&self) -> Tree {
        let mut attributes: Vec<(&'static str, String)> = Vec::new();
        for (key, value) in &self.attributes {
            let key = KEYS[usize::from(*key) % KEYS.len()];
            let value = match value {
                Value::Code(code) => code.to_string(),
                Value::Text(text) => (*text).to_owned(),
                Value::Client => "jabber:client".to_owned(),
                Value::Muc => MUC_USER.to_owned(),
            };
            if attributes.iter().all(|(k, _)| *k != key) {
                attributes.push((key, value));
            }
        }
        let children = self.children.iter().filter_map(|child| match child {
            Child::Text("") => None,
            Child::Text(text) => Some(Node::Text((*text).to_owned())),
            Child::Element(element) => Some(Node::Tree(element.tree())),
        });
        let name = NAMES[usize::from(self.name) % NAMES.len()];
        Tree { name, attributes, children: children.collect() }
    }
}

impl Tree {
    fn new(name: &'static str, attributes: &[(&'static str, &str)]) -> Tree {
        let attributes = attributes.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Tree { name, attributes, children: Vec::new() }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(k, _)| *k == key).map(|(_, value)| value.as_str())
    }

    fn write(&self, out: &mut Vec<u8>) {
        write::open(out, self.name.as_bytes());
        let name = out.len() - self.name.len()..out.len();
        for (key, value) in &self.attributes {
            write::attribute(out, key.as_bytes(), value.as_bytes());
        }
        if self.children.is_empty() {
            return write::end_empty(out);
        }
        write::end_open(out);
        for child in &self.children {
            match child {
                Node::Text(text) => write::escape(out, text.as_bytes()),
                Node::Tree(tree) => tree.write(out),
            }
        }
        write::close(out, name);
    }

    fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn edit(&mut self, edits: &Edits) {
        self.attributes.retain(|(key, value)| *key != "xmlns" || value != "jabber:client");
        for (key, edit) in [("to", edits.to), ("from", edits.from), ("id", edits.id)] {
            if !matches!(edit, Edit::Keep) {
                self.attributes.retain(|(k, _)| *k != key);
            }
            if let Edit::Set(value) = edit {
                self.attributes.push((key, value.to_owned()));
            }
        }
        let x = self.children.iter_mut().find_map(|child| match child {
            Node::Tree(tree) if tree.name == "x" && tree.get("xmlns") == Some(MUC_USER) => Some(tree),
            _ => None,
        });
        if let Some(x) = x {
            x.edit_muc(edits);
        }
        if edits.delay {
            let attributes = [("xmlns", "urn:xmpp:delay"), ("from", DELAY.from), ("stamp", DELAY.stamp)];
            self.children.push(Node::Tree(Tree::new("delay", &attributes)));
        }
    }

    fn edit_muc(&mut self, edits: &Edits) {
        let code_is = |code: &u8, text: &str| code.to_string() == text;
        let mut present: Vec<String> = Vec::new();
        if !edits.without.is_empty() || !edits.with.is_empty() {
            self.children.retain(|child| {
                let Node::Tree(status) = child else { return true };
                let code = status.get("code").unwrap_or("");
                let goes = !code.is_empty()
                    && (edits.without.iter().any(|c| code_is(c, code)) || present.iter().any(|p| p == code));
                if status.name != "status" {
                    return true;
                }
                if !goes {
                    present.push(code.to_owned());
                }
                !goes
            });
        }
        for code in edits.with.iter().map(u8::to_string) {
            if !present.contains(&code) {
                self.children.push(Node::Tree(Tree::new("status", &[("code", &code)])));
                present.push(code);
            }
        }
        for child in &mut self.children {
            let Node::Tree(item) = child else { continue };
            let is_item = item.name == "item" && matches!(item.get("xmlns"), None | Some("" | MUC_USER));
            for (key, jid) in &mut item.attributes {
                let bare = !jid.contains(['/', '&', '<', '>', '\'', '"']);
                if is_item && *key == "jid" && bare && edits.complete && jid.len() % 2 == 1 {
                    *jid = format!("{jid}/{RESOURCE}");
                }
            }
        }
    }
}

fn complete<'a>(bare: &str) -> Option<&'a str> {
    (bare.len() % 2 == 1).then_some(RESOURCE)
}

fn copy(edits: &Edits, stanza: &[u8]) -> Vec<u8> {
    let [without, with] =
        [&edits.without, &edits.with].map(|codes| codes.iter().map(|&c| c.into()).collect::<Vec<u16>>());
    let mut out = Vec::new();
    Splice {
        to: edits.to.attribute(),
        from: edits.from.attribute(),
        id: edits.id.attribute(),
        without: &without,
        with: &with,
        complete: if edits.complete { Some(&complete) } else { None },
        delay: edits.delay.then_some(DELAY),
    }
    .write(stanza, &mut out);
    out
}

/// See the module.
pub fn run(data: &[u8]) {
    match read(data) {
        Some(Input::Bytes(edits, bytes)) => {
            let _ = (copy(&edits, bytes), Summary::of(bytes));
        }
        Some(Input::Written(edits, element)) => {
            let mut tree = element.tree();
            let stanza = tree.written();
            let found = copy(&edits, &stanza);
            tree.edit(&edits);
            assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&tree.written()));
            let _ = Summary::of(&stanza);
        }
        None => {}
    }
}
