//! What a room must know of its session descriptions beyond what the peer connection does with them.

/// An offer of the server, as the peer connection takes it: the server offers `sendrecv` for media that it only sends.
pub(super) fn for_receiving(offer: &str) -> String {
    let section = |section: &str| {
        if section.starts_with("audio") { section.replace("a=sendrecv", "a=sendonly") } else { section.to_owned() }
    };
    offer.split("\nm=").map(section).collect::<Vec<_>>().join("\nm=")
}

/// A media section of an offer: its mid, and the track that its `msid` names (RFC 8830). The server names its tracks by their id.
pub(super) fn tracks(offer: &str) -> impl Iterator<Item = (&str, &str)> {
    offer.split("\nm=").skip(1).filter_map(|section| {
        let value = |name: &str| section.lines().find_map(|line| line.trim_end().strip_prefix(name));
        let inactive = section.lines().any(|line| line.trim_end() == "a=inactive");
        let track = value("a=msid:")?.split_ascii_whitespace().nth(1)?;
        (!inactive).then_some((value("a=mid:")?, track))
    })
}
