//! What of an occupant's presence says what is. Who changed a role or an affiliation, and why, belongs to the change (XEP-0045 §8.2 to
//! §10.9): rooms leave it out for who joins later (§7.2.2), and so it is not kept.

use crate::chat::MUC_USER;
use enjamb_stanza::read::{self, Child};

fn is_of_a_change(child: &Child) -> bool {
    matches!(child.name, b"actor" | b"reason")
}

/// A presence without that; none if there is nothing of it.
pub(crate) fn without_change(presence: &[u8]) -> Option<Vec<u8>> {
    let x = read::children(presence).filter(|child| child.name == b"x" && child.xmlns() == MUC_USER);
    let items = x.flat_map(|x| x.children()).filter(|child| child.name == b"item");
    let mut out = Vec::new();
    let mut rest = presence;
    for item in items.filter(|item| item.children().any(|child| is_of_a_change(&child))) {
        let begin = (item.whole.as_ptr() as usize).checked_sub(rest.as_ptr() as usize)?;
        out.extend_from_slice(rest.get(..begin)?);
        rest = rest.get(begin + item.whole.len()..)?;
        out.extend_from_slice(b"<item");
        out.extend_from_slice(item.attributes);
        let mut stays = item.children().filter(|child| !is_of_a_change(child)).peekable();
        if stays.peek().is_none() {
            out.extend_from_slice(b"/>");
        } else {
            out.push(b'>');
            stays.for_each(|child| out.extend_from_slice(child.whole));
            out.extend_from_slice(b"</item>");
        }
    }
    if rest.len() == presence.len() {
        return None;
    }
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_who_changed_it_and_why() {
        let presence = |inside: &str| {
            format!(
                "<presence from='r@c/n'><show>away</show><x xmlns='http://jabber.org/protocol/muc#user'>{inside}</x><reason>x</reason></presence>"
            )
        };
        let of = |inside: &str| {
            without_change(presence(inside).as_bytes()).map(|all| String::from_utf8(all).unwrap())
        };
        assert_eq!(of("<item role='visitor'/><status code='110'/>"), None);
        assert_eq!(of("<item role='visitor'><continue/></item><reason/>"), None);
        let plain = "<item affiliation='none' role='moderator'/><status code='110'/>";
        for inside in
            ["<actor nick='o'/>", "<reason>be&lt;cause</reason>", "<actor nick='o' jid='o@s'/><reason/>"]
        {
            assert_eq!(of(&plain.replace("/><", &format!(">{inside}</item><"))), Some(presence(plain)));
        }
        let two = |first: &str, second: &str| {
            format!("<item jid='a@b'><continue/>{first}</item><item jid='a@c'>{second}<x a='1'>y</x></item>")
        };
        assert_eq!(of(&two("<actor nick='o'/>", "<reason>r</reason>")), Some(presence(&two("", ""))));
        let whole = presence("<item jid='a@b'><actor nick='o'/></item>");
        for cut in 0..whole.len() {
            without_change(&whole.as_bytes()[..cut]);
        }
    }
}
