//! AS_PATH and AS4_PATH (RFC 4271 §4.3, RFC 5065, RFC 6793), in both directions.

use std::fmt;

use super::AS_TRANS;

/// The ASes a route went through, the nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AsPath {
    segments: Box<[Segment]>,
}

/// A part of a path. It is never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment {
    /// Ordered or not, inside a confederation or not.
    pub kind: SegmentKind,
    /// At most 255 once it is on the wire; longer sequences are split there.
    pub asns: Box<[u32]>,
}

/// The types of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SegmentKind {
    /// AS_SET.
    Set = 1,
    /// AS_SEQUENCE.
    Sequence = 2,
    /// AS_CONFED_SEQUENCE (RFC 5065 §3).
    ConfedSequence = 3,
    /// AS_CONFED_SET.
    ConfedSet = 4,
}

impl AsPath {
    /// A path of one sequence; the empty path of a route from its own AS if there are none.
    pub fn sequence(asns: &[u32]) -> Self {
        Self::from_segments(vec![Segment {
            kind: SegmentKind::Sequence,
            asns: asns.into(),
        }])
    }

    /// A path of segments; empty ones are left out.
    pub fn from_segments(mut segments: Vec<Segment>) -> Self {
        segments.retain(|segment| !segment.asns.is_empty());
        Self {
            segments: segments.into(),
        }
    }

    /// The segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The length for the decision process: a set counts one, a confederation nothing (RFC 4271 §9.1.2.2, RFC 5065 §5.3).
    pub fn path_len(&self) -> u32 {
        let len = |segment: &Segment| match segment.kind {
            SegmentKind::Sequence => segment.asns.len() as u32,
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        };
        self.segments.iter().map(len).sum()
    }

    /// The neighbour the route came from: the first AS of a leading sequence.
    pub fn first_as(&self) -> Option<u32> {
        let first = self.segments.first()?;
        (first.kind == SegmentKind::Sequence).then(|| first.asns[0])
    }

    /// Every AS, the nearest first, sets in their order on the wire.
    pub fn asns(&self) -> impl Iterator<Item = u32> + '_ {
        self.segments
            .iter()
            .flat_map(|segment| segment.asns.iter().copied())
    }

    /// There is a confederation segment.
    pub fn has_confederation(&self) -> bool {
        self.segments.iter().any(|segment| {
            matches!(
                segment.kind,
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet
            )
        })
    }

    /// The path with an AS put before it (RFC 4271 §5.1.2).
    #[must_use]
    pub fn prepend(&self, asn: u32) -> Self {
        let mut segments = self.segments.to_vec();
        match segments.first_mut() {
            Some(first) if first.kind == SegmentKind::Sequence => {
                first.asns = std::iter::once(asn)
                    .chain(first.asns.iter().copied())
                    .collect();
            }
            _ => segments.insert(
                0,
                Segment {
                    kind: SegmentKind::Sequence,
                    asns: [asn].into(),
                },
            ),
        }
        Self::from_segments(segments)
    }

    /// Reads an attribute's value. `None`: malformed in the sense of RFC 7606 §7.2, or with AS 0 (RFC 7607).
    pub fn decode(mut value: &[u8], four_octets: bool) -> Option<Self> {
        let width = if four_octets { 4 } else { 2 };
        let mut segments: Vec<Segment> = Vec::new();
        while let Some((head, rest)) = value.split_at_checked(2) {
            let kind = match head[0] {
                1 => SegmentKind::Set,
                2 => SegmentKind::Sequence,
                3 => SegmentKind::ConfedSequence,
                4 => SegmentKind::ConfedSet,
                _ => return None,
            };
            let (asns, rest) = rest.split_at_checked(usize::from(head[1]) * width)?;
            let number = |bytes: &[u8]| {
                bytes
                    .iter()
                    .fold(0, |sum, &octet| sum << 8 | u32::from(octet))
            };
            let asns: Vec<u32> = asns.chunks_exact(width).map(number).collect();
            if asns.is_empty() || asns.contains(&0) {
                return None;
            }
            // A sequence longer than 255 comes in pieces; together they are one, so that equal paths are equal.
            match segments.last_mut() {
                Some(last) if last.kind == kind && kind == SegmentKind::Sequence => {
                    last.asns = last.asns.iter().copied().chain(asns).collect();
                }
                _ => segments.push(Segment {
                    kind,
                    asns: asns.into(),
                }),
            }
            value = rest;
        }
        value.is_empty().then(|| Self::from_segments(segments))
    }

    /// The attribute's value. With two octets, numbers that do not fit become AS_TRANS.
    pub fn encode(&self, four_octets: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for segment in &self.segments {
            for asns in segment.asns.chunks(255) {
                out.extend([segment.kind as u8, asns.len() as u8]);
                for &asn in asns {
                    if four_octets {
                        out.extend(asn.to_be_bytes());
                    } else {
                        out.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
                    }
                }
            }
        }
        out
    }

    /// A number needs four octets.
    pub fn is_wide(&self) -> bool {
        self.asns().any(|asn| asn > u32::from(u16::MAX))
    }

    /// The true path from AS_PATH with two octets and AS4_PATH (RFC 6793 §4.2.3).
    #[must_use]
    pub fn merge(&self, as4: &Self) -> Self {
        let Some(missing) = self.path_len().checked_sub(as4.path_len()) else {
            return self.clone(); // an old speaker aggregated: AS4_PATH no longer tells the truth
        };
        let mut missing = missing as usize;
        let mut segments = Vec::new();
        for segment in &self.segments {
            let taken = match segment.kind {
                SegmentKind::Sequence => missing.min(segment.asns.len()),
                SegmentKind::Set if missing > 0 => segment.asns.len(),
                SegmentKind::Set | SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
            };
            missing -= match segment.kind {
                SegmentKind::Sequence => taken,
                SegmentKind::Set | SegmentKind::ConfedSequence | SegmentKind::ConfedSet => {
                    taken.min(1)
                }
            };
            segments.push(Segment {
                kind: segment.kind,
                asns: segment.asns[..taken].into(),
            });
        }
        for segment in &as4.segments {
            match segments.last_mut() {
                Some(last) if last.kind == segment.kind && last.kind == SegmentKind::Sequence => {
                    last.asns = last.asns.iter().chain(&segment.asns).copied().collect();
                }
                _ => segments.push(segment.clone()),
            }
        }
        Self::from_segments(segments)
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            let (open, close, between) = match segment.kind {
                SegmentKind::Sequence => ("", "", " "),
                SegmentKind::Set => ("{", "}", ","),
                SegmentKind::ConfedSequence => ("(", ")", " "),
                SegmentKind::ConfedSet => ("[", "]", ","),
            };
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(open)?;
            for (index, asn) in segment.asns.iter().enumerate() {
                if index > 0 {
                    f.write_str(between)?;
                }
                write!(f, "{asn}")?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(asns: &[u32]) -> Segment {
        Segment {
            kind: SegmentKind::Set,
            asns: asns.into(),
        }
    }

    #[test]
    fn a_sequence_is_type_two_on_the_wire() {
        let path = AsPath::sequence(&[65001, 4_200_000_000]);
        assert_eq!(
            path.encode(true),
            [2, 2, 0, 0, 0xfd, 0xe9, 0xfa, 0x56, 0xea, 0x00]
        );
        assert_eq!(path.encode(false), [2, 2, 0xfd, 0xe9, 0x5b, 0xa0]);
        assert_eq!(
            AsPath::from_segments(vec![set(&[1])]).encode(false),
            [1, 1, 0, 1]
        );
    }

    #[test]
    fn more_than_255_hops_are_split_on_the_wire_and_whole_in_memory() {
        let path = AsPath::sequence(&(1..=600).collect::<Vec<_>>());
        let bytes = path.encode(true);
        assert_eq!(bytes.len(), 3 * 2 + 600 * 4);
        assert_eq!(AsPath::decode(&bytes, true).unwrap(), path);
    }

    #[test]
    fn malformed_values_are_refused() {
        let cases: &[(&str, &[u8])] = &[
            ("one octet left", &[2, 1, 0, 0, 0, 1, 9]),
            ("an empty segment", &[2, 0]),
            ("beyond the end", &[2, 2, 0, 0, 0, 1]),
            ("unknown type", &[5, 1, 0, 0, 0, 1]),
            ("AS 0", &[2, 1, 0, 0, 0, 0]),
        ];
        for (name, value) in cases {
            assert_eq!(AsPath::decode(value, true), None, "{name}");
        }
        assert_eq!(AsPath::decode(&[], true).unwrap(), AsPath::default());
    }

    #[test]
    fn a_set_counts_one_and_is_shown_in_braces() {
        let path = AsPath::from_segments(vec![set(&[7, 8])])
            .prepend(1)
            .prepend(2);
        assert_eq!((path.path_len(), path.first_as()), (3, Some(2)));
        assert_eq!(path.to_string(), "2 1 {7,8}");
        assert_eq!(AsPath::from_segments(vec![set(&[7, 8])]).first_as(), None);
    }

    #[test]
    fn as4_path_restores_what_two_octets_lost() {
        let trans = u32::from(AS_TRANS);
        let seen = AsPath::sequence(&[100, 200, trans, trans]);
        let cases: &[(&str, AsPath, &str)] = &[
            (
                "the tail",
                AsPath::sequence(&[70000, 80000]),
                "100 200 70000 80000",
            ),
            (
                "longer than the path",
                AsPath::sequence(&[1, 2, 3, 4, 5]),
                "100 200 23456 23456",
            ),
            ("all of it", AsPath::sequence(&[1, 2, 3, 4]), "1 2 3 4"),
        ];
        for (name, as4, merged) in cases {
            assert_eq!(seen.merge(as4).to_string(), *merged, "{name}");
        }
    }
}
