//! Masking: every byte of a client's payload is combined with a key of four, so that no attacker chooses what
//! intermediaries see.

/// Masks or unmasks a whole payload; the two are the same.
pub(super) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_meets_the_key_byte_of_its_place() {
        let mask = [1, 2, 4, 8];
        for len in 0..40 {
            let mut payload: Vec<u8> = (100..100 + len).collect();
            let expected: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            apply_mask(&mut payload, mask);
            assert_eq!(payload, expected);
        }
    }
}
