//! Policy lists as words in an arena, and the search for the first clause that matches a packet.
//!
//! A list is a run of clauses. For each of four dimensions (source class, destination class, protocol with destination
//! port or ICMP type, source port) the blob has a table from the packet's value to a *group*, and for each group a row of
//! bits, one per clause, preceded by its summary, one bit per word of the row that is not zero. [`evaluate`] takes the
//! packet's four rows, ANDs them, and follows the first bit; the cost does not depend on the number of clauses but on how
//! many 64-clause words look promising. The blob's layout is described at [`Layout`].
//!
//! Left out: anything that is not one of the four dimensions must be put into the classes by user space.

#[cfg(any(test, feature = "std"))]
mod encode;

#[cfg(any(test, feature = "std"))]
pub use encode::{Blob, Clause, ClauseAction, EncodeError, Learn, ProtocolSet, encode};

use crate::reason::Reason;

/// An arena of policy blobs.
pub trait Words {
    /// The word at `index`; `None` beyond the end.
    fn word(&self, index: u32) -> Option<u64>;
    /// Counts one match in the word at `index`.
    fn hit(&self, index: u32);
    /// [`first_match`], which the programs make a function of its own.
    #[inline(always)]
    fn first_match(&self, rows: Rows, width: u32, from: u32) -> u32
    where
        Self: Sized,
    {
        first_match(self, rows, width, from)
    }
}

/// What a policy is asked about a packet.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Class of the source address.
    pub src_class: u32,
    /// Class of the destination address.
    pub dst_class: u32,
    /// Protocol number.
    pub protocol: u8,
    /// Destination port, or ICMP type << 8 | code; 0 where the protocol has neither.
    pub l4: u16,
    /// Source port; 0 where the protocol has none.
    pub sport: u16,
}

/// A policy's answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This rule allows the packet.
    Allow(u32),
    /// The packet is dropped; the rule is named if one decided ([`Reason::Denied`]), else [`Decision::NO_RULE`].
    Drop(Reason, u32),
}

impl Decision {
    /// No rule decided.
    pub const NO_RULE: u32 = u32::MAX;

    /// The answer in one register: the reason (0: allowed) above the rule.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        match self {
            Self::Allow(rule) => rule as u64,
            Self::Drop(reason, rule) => pack(reason, rule),
        }
    }

    /// The reverse of [`Decision::pack`].
    pub fn unpack(word: u64) -> Self {
        let (code, rule) = ((word >> 32) as u32, word as u32);
        if code == 0 {
            return Self::Allow(rule);
        }
        Self::Drop(Reason::from_code(code as u8), rule)
    }
}

/// Asks the list that begins at `base`.
#[inline(always)]
pub fn evaluate(words: &impl Words, base: u32, query: Query) -> Decision {
    Decision::unpack(evaluate_packed(words, base, &query))
}

/// [`evaluate`] with the answer as [`Decision::pack`] makes it: the form the programs use, since old verifiers want no
/// enum with a payload alive across a join.
#[inline(always)]
pub fn evaluate_packed<W: Words>(words: &W, base: u32, query: &Query) -> u64 {
    if base == 0 {
        return pack(Reason::NoPolicy, Decision::NO_RULE);
    }
    search(words, base, query).unwrap_or(pack(Reason::BrokenPolicy, Decision::NO_RULE))
}

/// Where things are in a blob. Offsets are in words from the blob's beginning.
///
/// | word | low 32 bits | high 32 bits |
/// | --- | --- | --- |
/// | 0 | length | [`Layout::MAGIC`] |
/// | 1 | content hash (all 64 bits) | |
/// | 2 | clauses | words in a row |
/// | 3 | source class table | its rows |
/// | 4 | destination class table | its rows |
/// | 5 | protocol and L4 key table | its rows |
/// | 6 | source port table, 0: no clause asks | its rows |
/// | 7 | actions, one word per clause; the hit counters follow | pages of each class table |
///
/// Tables are made of blocks of 64 words, 256 slots of 16 bits each, and a block's number counts from its table's
/// beginning. A class table begins with a directory (slot: block of the page of 256 classes), and a page's slot is a
/// group or [`Layout::UNKNOWN`]. A protocol table begins with a slot per protocol: a group, or [`Layout::DEEPER`] and the
/// block of a directory by the key's high byte, whose pages have a group per low byte. A row is
/// [`Layout::summary`]`(width)` summary words and then `width` words of bits.
///
/// An action word is the rule (32 bits), the clause to go on from (24 bits, `Pass` and `Log`) and the action (8 bits).
#[derive(Debug)]
pub struct Layout;

impl Layout {
    /// Marks the first word of a blob.
    pub const MAGIC: u32 = 0xc1ea_0001;
    /// Words before the first table.
    pub const HEADER: u32 = 8;
    /// Words of a block of 256 slots.
    pub const BLOCK: u32 = 64;
    /// A class the blob does not know.
    pub const UNKNOWN: u32 = 0xffff;
    /// Flag of a slot that names a block, not a group.
    pub const DEEPER: u32 = 0x8000;
    /// Longest row in words: 16,384 clauses.
    pub const MAX_WIDTH: u32 = 256;
    /// Times a packet is sent on by `Pass` and `Log` clauses, and one more. The encoder refuses lists that could need
    /// more.
    pub const MAX_ROUNDS: u32 = 128;
    /// The clause allows.
    pub const ALLOW: u32 = 1;
    /// The clause denies.
    pub const DENY: u32 = 2;
    /// The search goes on from another clause.
    pub const PASS: u32 = 3;
    /// The clause is counted and the search goes on.
    pub const LOG: u32 = 4;

    /// Summary words of a row of `width` words.
    #[inline(always)]
    pub const fn summary(width: u32) -> u32 {
        width.div_ceil(64)
    }
}

#[inline(always)]
const fn pack(reason: Reason, rule: u32) -> u64 {
    (reason as u64) << 32 | rule as u64
}

#[inline(always)]
const fn low(word: u64) -> u32 {
    word as u32
}

#[inline(always)]
const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The slot `index` of the blocks that begin at `at`.
#[inline(always)]
fn slot<W: Words>(words: &W, at: u32, index: u32) -> Option<u32> {
    let word = words.word(at.wrapping_add(index >> 2))?;
    Some((word >> ((index & 3) * 16)) as u32 & 0xffff)
}

#[inline(always)]
fn class_group<W: Words>(words: &W, table: u32, pages: u32, class: u32) -> Option<u32> {
    if class >> 8 >= pages {
        return Some(Layout::UNKNOWN);
    }
    let page = slot(words, table, class >> 8)?;
    slot(
        words,
        table.wrapping_add(page * Layout::BLOCK),
        class & 0xff,
    )
}

#[inline(always)]
fn port_group<W: Words>(words: &W, table: u32, protocol: u8, key: u16) -> Option<u32> {
    let first = slot(words, table, protocol as u32)?;
    if first & Layout::DEEPER == 0 {
        return Some(first);
    }
    let directory = table.wrapping_add((first & !Layout::DEEPER) * Layout::BLOCK);
    let page = slot(words, directory, key as u32 >> 8)?;
    slot(
        words,
        table.wrapping_add(page * Layout::BLOCK),
        key as u32 & 0xff,
    )
}

/// `None`: the blob is damaged.
#[inline(always)]
fn search<W: Words>(words: &W, base: u32, query: &Query) -> Option<u64> {
    if high(words.word(base)?) != Layout::MAGIC {
        return None;
    }
    let shape = words.word(base.wrapping_add(2))?;
    let (clauses, width) = (low(shape), high(shape));
    let sources = words.word(base.wrapping_add(3))?;
    let destinations = words.word(base.wrapping_add(4))?;
    let protocols = words.word(base.wrapping_add(5))?;
    let source_ports = words.word(base.wrapping_add(6))?;
    let tail = words.word(base.wrapping_add(7))?;
    let (actions, pages) = (base.wrapping_add(low(tail)), high(tail));

    let src = class_group(
        words,
        base.wrapping_add(low(sources)),
        pages,
        query.src_class,
    )?;
    let dst = class_group(
        words,
        base.wrapping_add(low(destinations)),
        pages,
        query.dst_class,
    )?;
    if src == Layout::UNKNOWN || dst == Layout::UNKNOWN {
        return Some(pack(Reason::UnknownClass, Decision::NO_RULE));
    }
    let l4 = port_group(
        words,
        base.wrapping_add(low(protocols)),
        query.protocol,
        query.l4,
    )?;

    let summary = Layout::summary(width);
    let stride = summary.wrapping_add(width);
    let src = base
        .wrapping_add(high(sources))
        .wrapping_add(src.wrapping_mul(stride));
    let dst = base
        .wrapping_add(high(destinations))
        .wrapping_add(dst.wrapping_mul(stride));
    let l4 = base
        .wrapping_add(high(protocols))
        .wrapping_add(l4.wrapping_mul(stride));
    // Where no clause asks for source ports the third row is simply read twice: cheaper than a branch per word.
    let mut sport = l4;
    if low(source_ports) != 0 {
        let table = base.wrapping_add(low(source_ports));
        let group = port_group(words, table, query.protocol, query.sport)?;
        sport = base
            .wrapping_add(high(source_ports))
            .wrapping_add(group.wrapping_mul(stride));
    }
    let rows = Rows {
        first: [src, dst],
        second: [l4, sport],
    };

    let mut from = 0;
    for _ in 0..Layout::MAX_ROUNDS {
        if from >= clauses {
            return Some(pack(Reason::NoRule, Decision::NO_RULE));
        }
        let clause = words.first_match(rows, width, from);
        if clause >= clauses {
            if clause == NO_MATCH {
                return Some(pack(Reason::NoRule, Decision::NO_RULE));
            }
            return None;
        }
        let action = words.word(actions.wrapping_add(clause))?;
        words.hit(actions.wrapping_add(clauses).wrapping_add(clause));
        let kind = high(action) >> 24;
        if kind == Layout::ALLOW {
            return Some(low(action) as u64);
        }
        if kind == Layout::DENY {
            return Some(pack(Reason::Denied, low(action)));
        }
        // Log and Pass alike: one way on, since a verifier would walk two ways through every round after this one.
        from = high(action) & 0x00ff_ffff;
        if kind > Layout::LOG || from <= clause {
            return None;
        }
    }
    None
}

/// Where a packet's four rows begin. In pairs, as they travel in registers.
#[derive(Copy, Clone, Debug)]
pub struct Rows {
    /// Source and destination class.
    pub first: [u32; 2],
    /// L4 key and source port.
    pub second: [u32; 2],
}

/// The answer of [`first_match`] when no clause matches.
pub const NO_MATCH: u32 = u32::MAX;
/// The answer of [`first_match`] when the blob is damaged.
pub const DAMAGED: u32 = u32::MAX - 1;

/// The first clause from `from` on whose bit is set in all rows; `width` is the rows' length in words.
///
/// Written so that a verifier walks the loops once each: nothing but leaving them depends on data.
#[inline(always)]
pub fn first_match<W: Words>(words: &W, rows: Rows, width: u32, from: u32) -> u32 {
    first_match_or_damage(words, rows, width, from).unwrap_or(DAMAGED)
}

#[inline(always)]
fn first_match_or_damage<W: Words>(words: &W, rows: Rows, width: u32, from: u32) -> Option<u32> {
    let both = |at: u32| -> Option<u64> {
        Some(
            words.word(rows.first[0].wrapping_add(at))?
                & words.word(rows.first[1].wrapping_add(at))?
                & words.word(rows.second[0].wrapping_add(at))?
                & words.word(rows.second[1].wrapping_add(at))?,
        )
    };
    let summary = Layout::summary(width);
    let start = from >> 6;
    let bits = both(summary.wrapping_add(start))? & (u64::MAX << (from & 63));
    if bits != 0 {
        return Some((start << 6).wrapping_add(bits.trailing_zeros()));
    }
    let mut block = start >> 6;
    // One bit for each word after the first that may have something.
    let mut promising = both(block)? & (u64::MAX << 1 << (start & 63));
    for _ in 0..Layout::MAX_WIDTH / 64 {
        for _ in 0..64 {
            if promising == 0 {
                break;
            }
            let word = (block << 6).wrapping_add(promising.trailing_zeros());
            let bits = both(summary.wrapping_add(word))?;
            if bits != 0 {
                return Some((word << 6).wrapping_add(bits.trailing_zeros()));
            }
            promising &= promising - 1;
        }
        block += 1;
        if block >= summary {
            return Some(NO_MATCH);
        }
        promising = both(block)?;
    }
    Some(NO_MATCH)
}

#[cfg(test)]
mod tests;
