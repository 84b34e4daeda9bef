//! A spliced copy of what was written is what would have been written with the other attributes; and what the reader finds in
//! it is what quick-xml finds.

#![allow(clippy::unwrap_used, missing_docs)]

use enjamb_stanza::{Attribute, Delay, Name, Splice, Summary, read, write};
use proptest::prelude::*;
use quick_xml::events::Event;

const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Child>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Child {
    Text(String),
    Element(Element),
}

impl Element {
    fn new(name: &str, attributes: &[(&str, &str)]) -> Element {
        let attributes = attributes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Element { name: name.into(), attributes, children: Vec::new() }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write::open(out, self.name.as_bytes());
        for (key, value) in &self.attributes {
            write::attribute(out, key.as_bytes(), value.as_bytes());
        }
        if self.children.is_empty() {
            return write::end_empty(out);
        }
        write::end_open(out);
        for child in &self.children {
            match child {
                Child::Text(text) => write::escape(out, text.as_bytes()),
                Child::Element(element) => element.write(out),
            }
        }
        out.extend_from_slice(format!("</{}>", self.name).as_bytes());
    }

    fn written(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|child| match child {
            Child::Element(element) => Some(element),
            Child::Text(_) => None,
        })
    }

    fn set(&mut self, key: &str, edit: Attribute) {
        if edit != Attribute::Keep {
            self.attributes.retain(|(k, _)| k != key);
        }
        if let Attribute::Set(value) = edit {
            self.attributes.push((key.into(), value.into()));
        }
    }

    /// The slow and plain way.
    fn spliced(&self, splice: &Splice) -> Element {
        let mut copy = self.clone();
        copy.attributes.retain(|(k, v)| k != "xmlns" || v != "jabber:client");
        copy.set("to", splice.to);
        copy.set("from", splice.from);
        copy.set("id", splice.id);
        let x = copy.children.iter_mut().find_map(|child| match child {
            Child::Element(e) if e.name == "x" && e.get("xmlns") == Some(MUC_USER) => Some(e),
            _ => None,
        });
        if let Some(x) = x {
            if !splice.without.is_empty() || !splice.with.is_empty() {
                let mut present = Vec::new();
                x.children.retain(|child| {
                    let Child::Element(status) = child else { return true };
                    if status.name != "status" {
                        return true;
                    }
                    let code = status.get("code").unwrap_or("").to_string();
                    let stays = code.is_empty()
                        || !(splice.without.iter().any(|c| c.to_string() == code) || present.contains(&code));
                    if stays {
                        present.push(code);
                    }
                    stays
                });
                for code in splice.with.iter().map(u16::to_string) {
                    if !present.contains(&code) {
                        x.children.push(Child::Element(Element::new("status", &[("code", &code)])));
                    }
                }
            }
            for child in &mut x.children {
                let Child::Element(item) = child else { continue };
                if item.name != "item" || ![None, Some(""), Some(MUC_USER)].contains(&item.get("xmlns")) {
                    continue;
                }
                for (key, value) in &mut item.attributes {
                    if key == "jid"
                        && !value.contains(['/', '\'', '"', '<', '>', '&'])
                        && let Some(resource) = splice.complete.and_then(|complete| complete(value))
                    {
                        value.push('/');
                        value.push_str(resource);
                    }
                }
            }
        }
        if let Some(Delay { from, stamp }) = splice.delay {
            let of = [("xmlns", "urn:xmpp:delay"), ("from", from), ("stamp", stamp)];
            copy.children.push(Child::Element(Element::new("delay", &of)));
        }
        copy
    }

    /// As quick-xml reads it.
    fn parsed(text: &str) -> Element {
        let mut reader = quick_xml::Reader::from_str(text);
        let mut open = vec![Element::new("", &[])];
        let element = |start: &quick_xml::events::BytesStart| {
            let attributes = start.attributes().map(|a| {
                let a = a.unwrap();
                let value = a.unescape_value().unwrap().into_owned();
                (String::from_utf8(a.key.as_ref().to_vec()).unwrap(), value)
            });
            let name = String::from_utf8(start.name().as_ref().to_vec()).unwrap();
            Element { name, attributes: attributes.collect(), children: Vec::new() }
        };
        let text_in = |open: &mut Vec<Element>, more: &str| match open.last_mut().unwrap().children.last_mut()
        {
            Some(Child::Text(text)) => text.push_str(more),
            _ => open.last_mut().unwrap().children.push(Child::Text(more.into())),
        };
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => open.push(element(&start)),
                Event::Empty(start) => {
                    let element = element(&start);
                    open.last_mut().unwrap().children.push(Child::Element(element));
                }
                Event::End(_) => {
                    let done = open.pop().unwrap();
                    open.last_mut().unwrap().children.push(Child::Element(done));
                }
                Event::Text(text) => text_in(&mut open, std::str::from_utf8(&text).unwrap()),
                Event::GeneralRef(name) => {
                    let entity = std::str::from_utf8(&name).unwrap().to_owned();
                    text_in(&mut open, quick_xml::escape::resolve_xml_entity(&entity).unwrap());
                }
                Event::Eof => break,
                other => panic!("{other:?}"),
            }
        }
        match open.pop().unwrap().children.pop().unwrap() {
            Child::Element(element) => element,
            Child::Text(text) => panic!("text: {text}"),
        }
    }

    /// Texts beside each other are one, and an empty one is none.
    fn merged(&self) -> Element {
        let mut children: Vec<Child> = Vec::new();
        for child in &self.children {
            match (children.last_mut(), child) {
                (_, Child::Text(text)) if text.is_empty() => {}
                (Some(Child::Text(before)), Child::Text(text)) => before.push_str(text),
                (_, Child::Text(text)) => children.push(Child::Text(text.clone())),
                (_, Child::Element(element)) => children.push(Child::Element(element.merged())),
            }
        }
        Element { children, ..self.clone() }
    }
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("r@c".into()),
        Just("r@c/it's".into()),
        Just("juliet@capulet.example".into()),
        Just("110".into()),
        Just("201".into()),
        Just("".into()),
        Just("a<b>&'\"".into()),
        Just("/".into()),
        "[ -~é]{0,20}"
    ]
}

fn attributes(keys: &'static [&'static str]) -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::vec((proptest::sample::select(keys), value()), 0..5).prop_map(|list| {
        let mut unique: Vec<(String, String)> = Vec::new();
        for (key, value) in list {
            if unique.iter().all(|(k, _)| k != key) {
                unique.push((key.into(), value));
            }
        }
        unique
    })
}

fn element() -> impl Strategy<Value = Element> {
    let leaf = (
        proptest::sample::select(&["item", "status", "body", "x", "delay", "message"][..]),
        attributes(&["jid", "code", "xmlns", "id", "to", "xml:lang"]),
    )
        .prop_map(|(name, attributes)| Element { name: name.into(), attributes, children: Vec::new() });
    let child = |element| prop_oneof![1 => value().prop_map(Child::Text), 3 => Strategy::prop_map(element, Child::Element)];
    leaf.prop_recursive(3, 20, 5, move |inner| {
        (inner.clone(), proptest::collection::vec(child(inner), 0..5), any::<bool>()).prop_map(
            |(mut element, children, muc)| {
                if muc {
                    element = Element::new("x", &[("xmlns", MUC_USER)]);
                }
                element.children = children;
                element
            },
        )
    })
}

fn stanza() -> impl Strategy<Value = Element> {
    (
        proptest::sample::select(&["message", "presence", "iq"][..]),
        attributes(&["to", "from", "id", "type", "xml:lang", "idx"]),
        any::<bool>(),
        proptest::collection::vec(element(), 0..4),
    )
        .prop_map(|(name, mut attributes, declares, children)| {
            if declares {
                attributes.insert(attributes.len() / 2, ("xmlns".into(), "jabber:client".into()));
            }
            Element {
                name: name.into(),
                attributes,
                children: children.into_iter().map(Child::Element).collect(),
            }
        })
}

fn edit() -> impl Strategy<Value = Option<Option<String>>> {
    proptest::option::of(proptest::option::of(value()))
}

fn attribute(edit: &Option<Option<String>>) -> Attribute<'_> {
    match edit {
        None => Attribute::Keep,
        Some(None) => Attribute::Remove,
        Some(Some(value)) => Attribute::Set(value),
    }
}

fn complete<'a>(bare: &str) -> Option<&'a str> {
    (bare.len() % 2 == 1 || bare == "juliet@capulet.example").then_some("bal'cony")
}

proptest! {
    #[test]
    fn writes_what_would_have_been_written(
        stanza in stanza(), to in edit(), from in edit(), id in edit(), completes in any::<bool>(), delayed in any::<bool>(),
        without in proptest::sample::subsequence(vec![110u16, 201, 7], 0..3),
        with in proptest::sample::subsequence(vec![110u16, 201, 303], 0..3),
    ) {
        let stanza = stanza.merged();
        let splice = Splice {
            to: attribute(&to), from: attribute(&from), id: attribute(&id), without: &without, with: &with,
            complete: completes.then_some(&complete),
            delay: delayed.then_some(Delay { from: "it's", stamp: "2026-01-02T03:04:05Z" }),
        };
        let mut out = b"kept".to_vec();
        splice.write(stanza.written().as_bytes(), &mut out);
        let expected = stanza.spliced(&splice);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("kept{}", expected.written()));
    }

    #[test]
    fn reads_what_quick_xml_reads(stanza in stanza()) {
        let bytes = stanza.written();
        let parsed = Element::parsed(&bytes);
        prop_assert_eq!(&parsed, &stanza.merged());
        let found: Vec<_> = read::children(bytes.as_bytes()).map(|c| Element::parsed(std::str::from_utf8(c.whole).unwrap())).collect();
        prop_assert_eq!(found, parsed.elements().cloned().collect::<Vec<_>>());
        let summary = Summary::of(bytes.as_bytes()).unwrap();
        prop_assert_eq!(summary.name, Name::from_bytes(parsed.name.as_bytes()).unwrap());
        let delayed = parsed.elements().any(|e| e.name == "delay" && e.get("xmlns") == Some("urn:xmpp:delay"));
        prop_assert_eq!(summary.delayed, delayed);
    }

    #[test]
    fn copies_anything(odd in proptest::collection::vec(any::<u8>(), 0..60), cut in 0usize..200) {
        let whole = format!("<presence from='a'><x xmlns='{MUC_USER}'><status code='110'/><item jid='a'><a/></item></x></presence>");
        let splice = Splice { with: &[7], without: &[110], complete: Some(&complete), to: Attribute::Set("x"), ..Splice::default() };
        splice.write(&odd, &mut Vec::new());
        splice.write(&whole.as_bytes()[..cut.min(whole.len())], &mut Vec::new());
    }
}
