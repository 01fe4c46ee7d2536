//! Properties of deltas over versions that have much, little or nothing in common.

use bowline_protocol::delta::{Cuts, apply, create};
use proptest::collection::vec;
use proptest::prelude::*;

/// Two texts made of the same pieces, with something of their own between.
fn versions() -> impl Strategy<Value = (String, String)> {
    let piece = prop_oneof!["[ab]{0,60}", "[a-zé🦀ü]{0,80}", Just("{\"key\":\"value é\"},".repeat(5))];
    let pieces = vec(piece, 1..6);
    (pieces, vec((any::<prop::sample::Index>(), "\\PC{0,6}"), 0..8)).prop_map(|(pieces, picks)| {
        let new =
            picks.iter().map(|(index, own)| format!("{own}{}", pieces[index.index(pieces.len())])).collect();
        (pieces.concat(), new)
    })
}

proptest! {
    #[test]
    fn applying_gives_the_target((old, new) in versions(), is_text in any::<bool>()) {
        let cuts = if is_text { Cuts::AtCharacters } else { Cuts::Anywhere };
        if let Some(delta) = create(old.as_bytes(), new.as_bytes(), cuts) {
            prop_assert!(delta.len() < new.len());
            prop_assert_eq!(apply(old.as_bytes(), &delta, 10_000).unwrap(), new.as_bytes());
            prop_assert!(!is_text || std::str::from_utf8(&delta).is_ok());
        }
    }

    #[test]
    fn bytes_have_deltas_too(
        old in vec(any::<u8>(), 0..300), own in vec(any::<u8>(), 0..20), cut in any::<prop::sample::Index>()
    ) {
        let cut = cut.index(old.len() + 1);
        let new = [&old[cut..], &own, &old[..cut]].concat();
        if let Some(delta) = create(&old, &new, Cuts::Anywhere) {
            prop_assert_eq!(apply(&old, &delta, 10_000).unwrap(), new);
        } else {
            prop_assert!(old.len() < 64, "two long pieces are found");
        }
    }

    #[test]
    fn garbage_is_refused(source in vec(any::<u8>(), 0..50), delta in "[0-9A-Za-z~_\n@,:;]{0,40}") {
        let _ = apply(&source, delta.as_bytes(), 100);
        let _ = apply(&source, format!("5\n{delta}").as_bytes(), 100);
    }

    #[test]
    fn a_damaged_delta_never_panics(
        (old, new) in versions(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        if let Some(mut delta) = create(old.as_bytes(), new.as_bytes(), Cuts::Anywhere) {
            let at = at.index(delta.len());
            prop_assert!(apply(old.as_bytes(), &delta[..at], 10_000).is_err());
            delta[at] = byte;
            let _ = apply(old.as_bytes(), &delta, 10_000);
        }
    }
}
