//! From clauses to the words of a blob, and blobs that learn new classes without being rewritten.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
};

use super::{Layout, Words, high, low};

/// A set of protocol numbers.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolSet([u64; 4]);

impl ProtocolSet {
    /// Every protocol.
    pub const ANY: Self = Self([u64::MAX; 4]);
    /// No protocol.
    pub const NONE: Self = Self([0; 4]);

    /// One protocol.
    #[must_use]
    pub const fn only(protocol: u8) -> Self {
        Self::NONE.with(protocol)
    }

    /// Every protocol but one.
    #[must_use]
    pub const fn except(protocol: u8) -> Self {
        Self::ANY.without(protocol)
    }

    /// This set and `protocol`.
    #[must_use]
    pub const fn with(mut self, protocol: u8) -> Self {
        self.0[protocol as usize / 64] |= 1 << (protocol % 64);
        self
    }

    /// This set without `protocol`.
    #[must_use]
    pub const fn without(mut self, protocol: u8) -> Self {
        self.0[protocol as usize / 64] &= !(1 << (protocol % 64));
        self
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Whether `protocol` is in the set.
    pub const fn contains(&self, protocol: u8) -> bool {
        self.0[protocol as usize / 64] >> (protocol % 64) & 1 == 1
    }

    /// Whether no protocol is in the set.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

impl fmt::Debug for ProtocolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("any");
        }
        f.debug_set()
            .entries((0..=u8::MAX).filter(|&p| self.contains(p)))
            .finish()
    }
}

/// Protocols with ports.
pub(crate) const WITH_PORTS: [u8; 4] = [6, 17, 132, 136];
/// Protocols with an L4 key: ports, or type and code.
pub(crate) const WITH_L4: [u8; 6] = [1, 6, 17, 58, 132, 136];

/// One line of a policy list. It matches when all of its parts do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The expression the source's class must satisfy; `None`: any.
    pub src: Option<u32>,
    /// The expression the destination's class must satisfy; `None`: any.
    pub dst: Option<u32>,
    /// Protocols.
    pub protocols: ProtocolSet,
    /// Destination ports, or ICMP type << 8 | code. A protocol that has neither never matches a clause that asks.
    pub l4: Option<Vec<RangeInclusive<u16>>>,
    /// Source ports. A protocol that has none never matches a clause that asks.
    pub sport: Option<Vec<RangeInclusive<u16>>>,
    /// What a match does.
    pub action: ClauseAction,
    /// The rule this clause belongs to, as drops, flows and counters name it.
    pub rule: u32,
}

/// What a match does.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClauseAction {
    /// The packet passes.
    Allow,
    /// The packet drops.
    Deny,
    /// The search goes on from the clause of this index, which is beyond the present one.
    Pass(u32),
    /// The match is counted and the search goes on.
    Log,
}

/// Why a list cannot be encoded. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// More clauses than a row holds.
    TooManyClauses {
        /// How many there are.
        clauses: usize,
    },
    /// A packet could be sent on by more `Log` and `Pass` clauses than the program follows.
    TooManyRounds {
        /// Rounds of the worst packet.
        rounds: usize,
    },
    /// The tables do not fit the blob's 16-bit group and block numbers.
    TooManyGroups,
    /// `Pass` does not lead forward.
    PassBackward {
        /// The clause that passes.
        clause: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyClauses { clauses } => write!(f, "{clauses} clauses are too many"),
            Self::TooManyRounds { rounds } => {
                write!(f, "{rounds} log actions and passes are too many")
            }
            Self::TooManyGroups => f.write_str("too many different rows"),
            Self::PassBackward { clause } => write!(f, "clause {clause} passes backward"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// What a blob does with a class it has not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learn {
    /// These words (index from the blob's beginning) are to be written into the arena, in this order.
    InPlace(Vec<(u32, u64)>),
    /// The class needs a new row or page: encode the list again.
    Reencode,
}

/// An encoded policy list.
#[derive(Clone, Debug)]
pub struct Blob {
    words: Vec<u64>,
    src: ClassDimension,
    dst: ClassDimension,
    pages: u32,
}

impl Blob {
    /// The words to write into the arena.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Identifies the content: equal lists over equal classes have equal hashes, hit counters left out.
    pub fn hash(&self) -> u64 {
        self.words[1]
    }

    /// Number of clauses.
    pub fn clauses(&self) -> u32 {
        low(self.words[2])
    }

    /// Where clause `index` counts its hits.
    pub fn hit_index(&self, index: u32) -> u32 {
        low(self.words[7]) + self.clauses() + index
    }

    /// Teaches the blob a class, if a row and a free slot exist for it. The class must not be in use by any packet yet.
    pub fn learn(&mut self, class: u32, holds: &dyn Fn(u32, u32) -> bool) -> Learn {
        if class >> 8 >= self.pages {
            return Learn::Reencode;
        }
        let src = self.src.signature(class, holds);
        let dst = self.dst.signature(class, holds);
        let (Some(&src_group), Some(&dst_group)) =
            (self.src.groups.get(&src), self.dst.groups.get(&dst))
        else {
            return Learn::Reencode;
        };
        let (src_table, dst_table) = (low(self.words[3]), low(self.words[4]));
        let known = class_slot(&self.words, src_table, class) != Layout::UNKNOWN;
        if known {
            let same = class_slot(&self.words, src_table, class) == src_group
                && class_slot(&self.words, dst_table, class) == dst_group;
            return if same {
                Learn::InPlace(Vec::new())
            } else {
                Learn::Reencode
            };
        }
        let writes = [
            set_class_slot(&mut self.words, src_table, class, src_group),
            set_class_slot(&mut self.words, dst_table, class, dst_group),
        ];
        self.words[1] =
            self.words[1].wrapping_add(class_hash(class, &self.src, &src, &self.dst, &dst));
        let mut writes = writes.to_vec();
        writes.push((1, self.words[1]));
        Learn::InPlace(writes)
    }

    /// Makes the blob forget a class that no packet carries any more; returns the words to write.
    pub fn forget(&mut self, class: u32, holds: &dyn Fn(u32, u32) -> bool) -> Vec<(u32, u64)> {
        let (src_table, dst_table) = (low(self.words[3]), low(self.words[4]));
        if class >> 8 >= self.pages || class_slot(&self.words, src_table, class) == Layout::UNKNOWN
        {
            return Vec::new();
        }
        let src = self.src.signature(class, holds);
        let dst = self.dst.signature(class, holds);
        let hash = class_hash(class, &self.src, &src, &self.dst, &dst);
        self.words[1] = self.words[1].wrapping_sub(hash);
        vec![
            set_class_slot(&mut self.words, src_table, class, Layout::UNKNOWN),
            set_class_slot(&mut self.words, dst_table, class, Layout::UNKNOWN),
            (1, self.words[1]),
        ]
    }

    /// Whether the blob knows the class.
    pub fn knows(&self, class: u32) -> bool {
        class >> 8 < self.pages
            && class_slot(&self.words, low(self.words[3]), class) != Layout::UNKNOWN
    }
}

/// A blob alone is an arena whose first word is the blob's: base 0 means "no policy", so ask it through [`Blob::ask`].
impl Blob {
    /// Evaluates the list as the programs would, without counting hits.
    pub fn ask(&self, query: super::Query) -> super::Decision {
        super::evaluate(&Shifted(&self.words), 1, query)
    }
}

struct Shifted<'a>(&'a [u64]);

impl Words for Shifted<'_> {
    fn word(&self, index: u32) -> Option<u64> {
        self.0.get(index as usize - 1).copied()
    }

    fn hit(&self, _: u32) {}
}

/// Encodes a list for the given classes. `holds` says whether an expression holds for a class.
pub fn encode(
    clauses: &[Clause],
    classes: impl Iterator<Item = u32>,
    holds: &dyn Fn(u32, u32) -> bool,
) -> Result<Blob, EncodeError> {
    let width = clauses.len().div_ceil(64);
    if width > Layout::MAX_WIDTH as usize {
        return Err(EncodeError::TooManyClauses {
            clauses: clauses.len(),
        });
    }
    check_rounds(clauses)?;

    let classes: BTreeSet<u32> = classes.filter(|&class| class != 0).collect();
    // One page more than needed, so that a new class finds room.
    let pages = classes.last().map_or(0, |last| last >> 8) + 2;
    let mut hash = clause_hash(clauses);

    let mut src = ClassDimension::new(clauses.iter().map(|c| c.src));
    let mut dst = ClassDimension::new(clauses.iter().map(|c| c.dst));
    let (mut src_slots, mut dst_slots) = (BTreeMap::new(), BTreeMap::new());
    for &class in &classes {
        let (s, d) = (src.signature(class, holds), dst.signature(class, holds));
        hash = hash.wrapping_add(class_hash(class, &src, &s, &dst, &d));
        src_slots.insert(class, src.group(s));
        dst_slots.insert(class, dst.group(d));
    }
    let src_rows: Vec<Row> = src.rows(width);
    let dst_rows: Vec<Row> = dst.rows(width);
    let l4 = PortDimension::new(clauses, width, &WITH_L4, |clause| clause.l4.as_deref())?;
    let sport = if clauses.iter().any(|clause| clause.sport.is_some()) {
        Some(PortDimension::new(clauses, width, &WITH_PORTS, |clause| {
            clause.sport.as_deref()
        })?)
    } else {
        None
    };

    let mut words = vec![0; Layout::HEADER as usize];
    let pair = |a: usize, b: usize| a as u64 | (b as u64) << 32;
    words[1] = hash;
    words[2] = pair(clauses.len(), width);
    for (header, slots, rows) in [(3, src_slots, src_rows), (4, dst_slots, dst_rows)] {
        if rows.len() >= Layout::UNKNOWN as usize || pages > 0xf000 {
            return Err(EncodeError::TooManyGroups);
        }
        let table = words.len();
        push_class_table(&mut words, pages, &slots);
        words[header] = pair(table, words.len());
        push_rows(&mut words, &rows, width);
    }
    for (header, dimension) in [(5, Some(l4)), (6, sport)] {
        let Some(dimension) = dimension else { continue };
        let table = words.len();
        dimension
            .blocks
            .iter()
            .for_each(|block| push_block(&mut words, block));
        words[header] = pair(table, words.len());
        push_rows(&mut words, &dimension.rows.rows, width);
    }
    words[7] = pair(words.len(), pages as usize);
    words.extend(
        clauses
            .iter()
            .enumerate()
            .map(|(index, clause)| action_word(index, clause)),
    );
    words.extend(clauses.iter().map(|_| 0));
    if u32::try_from(words.len()).is_err() {
        return Err(EncodeError::TooManyGroups);
    }
    words[0] = pair(words.len(), Layout::MAGIC as usize);
    Ok(Blob {
        words,
        src,
        dst,
        pages,
    })
}

/// One bit per clause.
type Row = Vec<u64>;

fn check_rounds(clauses: &[Clause]) -> Result<(), EncodeError> {
    let mut targets = BTreeSet::new();
    let mut logs = 0;
    for (index, clause) in clauses.iter().enumerate() {
        match clause.action {
            ClauseAction::Pass(target) if target as usize <= index => {
                return Err(EncodeError::PassBackward { clause: index });
            }
            // The bits of an action word have room for the end of the longest list.
            ClauseAction::Pass(target) => {
                targets.insert(target);
            }
            ClauseAction::Log => logs += 1,
            ClauseAction::Allow | ClauseAction::Deny => {}
        }
    }
    // Passes lead forward, so that no target is met twice.
    let rounds = logs + targets.len() + 1;
    if rounds > Layout::MAX_ROUNDS as usize {
        return Err(EncodeError::TooManyRounds { rounds });
    }
    Ok(())
}

fn action_word(index: usize, clause: &Clause) -> u64 {
    let (kind, target) = match clause.action {
        ClauseAction::Allow => (Layout::ALLOW, 0),
        ClauseAction::Deny => (Layout::DENY, 0),
        ClauseAction::Pass(target) => (Layout::PASS, target.min(0x00ff_ffff)),
        ClauseAction::Log => (Layout::LOG, index as u32 + 1),
    };
    (kind as u64) << 56 | (target as u64) << 32 | clause.rule as u64
}

/// One of the two dimensions that are looked up by class.
#[derive(Clone, Debug)]
struct ClassDimension {
    /// The distinct expressions, and which clauses ask each.
    expressions: Vec<(u32, Vec<u32>)>,
    /// Clauses that ask nothing.
    always: Vec<u32>,
    /// Set of expressions that hold -> group.
    groups: BTreeMap<Vec<u64>, u32>,
    /// Hash of each expression's clauses, for a content hash that does not depend on expression ids.
    hashes: Vec<u64>,
}

impl ClassDimension {
    fn new(asked: impl Iterator<Item = Option<u32>>) -> Self {
        let mut expressions: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut always = Vec::new();
        for (clause, expression) in (0u32..).zip(asked) {
            match expression {
                Some(expression) => expressions.entry(expression).or_default().push(clause),
                None => always.push(clause),
            }
        }
        let hashes = expressions
            .values()
            .map(|clauses| {
                clauses
                    .iter()
                    .fold(1, |hash, &clause| mix(hash, clause as u64))
            })
            .collect();
        Self {
            expressions: expressions.into_iter().collect(),
            always,
            groups: BTreeMap::new(),
            hashes,
        }
    }

    /// Which expressions hold for `class`, as bits.
    fn signature(&self, class: u32, holds: &dyn Fn(u32, u32) -> bool) -> Vec<u64> {
        let mut bits = vec![0; self.expressions.len().div_ceil(64)];
        for (i, (expression, _)) in self.expressions.iter().enumerate() {
            if holds(*expression, class) {
                bits[i / 64] |= 1 << (i % 64);
            }
        }
        bits
    }

    fn group(&mut self, signature: Vec<u64>) -> u32 {
        let next = self.groups.len() as u32;
        *self.groups.entry(signature).or_insert(next)
    }

    fn rows(&self, width: usize) -> Vec<Row> {
        let mut rows = vec![vec![0; width]; self.groups.len()];
        for (signature, &group) in &self.groups {
            let row = &mut rows[group as usize];
            self.always.iter().for_each(|&clause| set_bit(row, clause));
            for (i, (_, clauses)) in self.expressions.iter().enumerate() {
                if signature[i / 64] >> (i % 64) & 1 == 1 {
                    for &clause in clauses {
                        set_bit(row, clause);
                    }
                }
            }
        }
        rows
    }

    fn hash(&self, signature: &[u64]) -> u64 {
        let held = |&(i, _): &(usize, &u64)| signature[i / 64] >> (i % 64) & 1 == 1;
        self.hashes
            .iter()
            .enumerate()
            .filter(held)
            .fold(0, |sum: u64, (_, h)| sum.wrapping_add(*h))
    }
}

/// One of the two dimensions that are looked up by protocol and a 16-bit key.
struct PortDimension {
    /// Blocks of 256 slots; the first is indexed by protocol.
    blocks: Vec<[u16; 256]>,
    rows: Interner,
}

impl PortDimension {
    fn new(
        clauses: &[Clause],
        width: usize,
        keyed: &[u8],
        ranges: impl Fn(&Clause) -> Option<&[RangeInclusive<u16>]>,
    ) -> Result<Self, EncodeError> {
        let mut rows = Interner::default();
        let mut blocks = vec![[0; 256]];
        let mut shared: BTreeMap<[u16; 256], u16> = BTreeMap::new();
        for protocol in 0..=u8::MAX {
            let asked = || {
                (0u32..)
                    .zip(clauses)
                    .filter(|(_, clause)| clause.protocols.contains(protocol))
            };
            let mut row = vec![0; width];
            let mut events: Vec<(u32, u32, bool)> = Vec::new();
            for (index, clause) in asked() {
                match ranges(clause) {
                    None => set_bit(&mut row, index),
                    Some(ranges) if keyed.contains(&protocol) => {
                        for range in merged(ranges) {
                            events.push((*range.start() as u32, index, true));
                            events.push((*range.end() as u32 + 1, index, false));
                        }
                    }
                    Some(_) => {}
                }
            }
            if events.is_empty() {
                blocks[0][protocol as usize] = rows.group(&row)?;
                continue;
            }
            // Walk the keys from 0 to 65535, changing the row where a range begins or ends.
            events.sort_unstable();
            let mut groups = vec![0u16; 0x1_0000];
            let mut key = 0;
            let mut events = events.into_iter().peekable();
            while key < 0x1_0000 {
                while let Some((_, index, begins)) = events.next_if(|event| event.0 == key) {
                    if begins {
                        set_bit(&mut row, index);
                    } else {
                        clear_bit(&mut row, index);
                    }
                }
                let end = events.peek().map_or(0x1_0000, |event| event.0);
                groups[key as usize..end as usize].fill(rows.group(&row)?);
                key = end;
            }
            let mut directory = [0; 256];
            for (slot, page) in directory.iter_mut().zip(groups.as_chunks::<256>().0) {
                *slot = push_shared(&mut blocks, &mut shared, page)?;
            }
            let directory = push_shared(&mut blocks, &mut shared, &directory)?;
            blocks[0][protocol as usize] = directory | Layout::DEEPER as u16;
        }
        Ok(Self { blocks, rows })
    }
}

/// Ranges without overlaps, so that a key is entered and left once.
fn merged(ranges: &[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let mut ranges: Vec<_> = ranges
        .iter()
        .filter(|range| !range.is_empty())
        .cloned()
        .collect();
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut out: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if *range.start() as u32 <= *last.end() as u32 + 1 => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => out.push(range),
        }
    }
    out
}

fn push_shared(
    blocks: &mut Vec<[u16; 256]>,
    shared: &mut BTreeMap<[u16; 256], u16>,
    block: &[u16; 256],
) -> Result<u16, EncodeError> {
    if let Some(&number) = shared.get(block) {
        return Ok(number);
    }
    let number = blocks.len() as u16;
    if blocks.len() >= Layout::DEEPER as usize {
        return Err(EncodeError::TooManyGroups);
    }
    blocks.push(*block);
    shared.insert(*block, number);
    Ok(number)
}

#[derive(Default)]
struct Interner {
    numbers: BTreeMap<Row, u16>,
    rows: Vec<Row>,
}

impl Interner {
    fn group(&mut self, row: &Row) -> Result<u16, EncodeError> {
        if let Some(&number) = self.numbers.get(row) {
            return Ok(number);
        }
        if self.rows.len() >= Layout::DEEPER as usize {
            return Err(EncodeError::TooManyGroups);
        }
        let number = self.rows.len() as u16;
        self.numbers.insert(row.clone(), number);
        self.rows.push(row.clone());
        Ok(number)
    }
}

fn set_bit(row: &mut Row, clause: u32) {
    row[clause as usize / 64] |= 1 << (clause % 64);
}

fn clear_bit(row: &mut Row, clause: u32) {
    row[clause as usize / 64] &= !(1 << (clause % 64));
}

fn push_rows(words: &mut Vec<u64>, rows: &[Row], width: usize) {
    for row in rows {
        for block in 0..width.div_ceil(64) {
            let end = width.min(block * 64 + 64);
            let bits = row[block * 64..end].iter().enumerate();
            words.push(bits.fold(0, |sum, (i, &word)| sum | u64::from(word != 0) << i));
        }
        words.extend(row);
    }
}

fn push_block(words: &mut Vec<u64>, slots: &[u16; 256]) {
    for four in slots.as_chunks::<4>().0 {
        words.push(
            four.iter()
                .rev()
                .fold(0, |word, &slot| word << 16 | slot as u64),
        );
    }
}

fn push_class_table(words: &mut Vec<u64>, pages: u32, slots: &BTreeMap<u32, u32>) {
    let directories = pages.div_ceil(256);
    for directory in 0..directories {
        push_block(
            words,
            &std::array::from_fn(|i| {
                (directories + (directory * 256 + i as u32).min(pages - 1)) as u16
            }),
        );
    }
    for page in 0..pages {
        let slot = |i: usize| {
            slots
                .get(&(page << 8 | i as u32))
                .map_or(Layout::UNKNOWN, |&g| g)
        };
        push_block(words, &std::array::from_fn(|i| slot(i) as u16));
    }
}

/// Index of the word and shift of the slot of `class`, which lies within the table's pages.
fn class_place(words: &[u64], table: u32, class: u32) -> (u32, u32) {
    let directories = high(words[7]).div_ceil(256);
    let at = table + (directories + (class >> 8)) * Layout::BLOCK + ((class & 0xff) >> 2);
    (at, (class & 3) * 16)
}

fn class_slot(words: &[u64], table: u32, class: u32) -> u32 {
    let (at, shift) = class_place(words, table, class);
    (words[at as usize] >> shift) as u32 & 0xffff
}

fn set_class_slot(words: &mut [u64], table: u32, class: u32, group: u32) -> (u32, u64) {
    let (at, shift) = class_place(words, table, class);
    let word = &mut words[at as usize];
    *word = *word & !(0xffff << shift) | (group as u64) << shift;
    (at, *word)
}

fn clause_hash(clauses: &[Clause]) -> u64 {
    let ranges = |mut hash: u64, ranges: &Option<Vec<RangeInclusive<u16>>>| {
        hash = mix(
            hash,
            ranges
                .as_ref()
                .map_or(u64::MAX, |ranges| ranges.len() as u64),
        );
        for range in ranges.iter().flatten() {
            hash = mix(hash, (*range.start() as u64) << 16 | *range.end() as u64);
        }
        hash
    };
    clauses.iter().enumerate().fold(
        mix(Layout::MAGIC as u64, clauses.len() as u64),
        |mut hash, (index, clause)| {
            hash = mix(
                hash,
                u64::from(clause.src.is_some()) << 1 | u64::from(clause.dst.is_some()),
            );
            hash = clause
                .protocols
                .0
                .iter()
                .fold(hash, |hash, &word| mix(hash, word));
            hash = ranges(ranges(hash, &clause.l4), &clause.sport);
            mix(hash, action_word(index, clause))
        },
    )
}

/// A class's share of the content hash: a sum over classes, so that learning and forgetting can change it.
fn class_hash(class: u32, src: &ClassDimension, s: &[u64], dst: &ClassDimension, d: &[u64]) -> u64 {
    mix(mix(mix(0, class as u64), src.hash(s)), dst.hash(d))
}

/// The finalizer of splitmix64 over a running hash.
fn mix(hash: u64, word: u64) -> u64 {
    let mut z = hash
        .rotate_left(23)
        .wrapping_add(word)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
