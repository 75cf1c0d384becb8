//! Every one of many prefixes that a path begins with, in one walk along the path: a radix tree.

use std::collections::VecDeque;
use std::ops::Range;

use super::index::fold;

/// A part of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    begin: u32,
    end: u32,
}

impl Span {
    /// Tables are bounded by the sources far below 2^32 rules and bytes.
    pub(super) fn new(begin: usize, end: usize) -> Self {
        let bounded = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Self {
            begin: bounded(begin),
            end: bounded(end),
        }
    }

    pub(super) const fn range(self) -> Range<usize> {
        self.begin as usize..self.end as usize
    }
}

/// A set of prefixes of folded bytes, each with a list of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    /// The root is the first; the children of each stand together, sorted by first byte.
    nodes: Vec<Node>,
    /// First byte of each node's label, to find it among its siblings.
    firsts: Vec<u8>,
    /// All labels, end to end.
    labels: Vec<u8>,
}

/// A prefix, or where several part ways.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Bytes from the parent to here, in `labels`.
    label: Span,
    children: Span,
    /// The list of the prefix that ends here.
    list: Option<Span>,
    /// The next shorter prefix that has a list.
    shorter: Option<u32>,
}

impl Prefixes {
    /// Of prefixes that are sorted, each there once.
    pub(super) fn new(prefixes: &[(&[u8], Span)]) -> Self {
        let mut tree = Self {
            nodes: vec![Node::default()],
            firsts: vec![0],
            labels: Vec::new(),
        };
        // Each node with the prefixes below it, and the length that they have in common.
        let mut open = VecDeque::from([(0, prefixes, 0)]);
        while let Some((number, mut below, depth)) = open.pop_front() {
            if let Some(((prefix, list), longer)) = below.split_first()
                && prefix.len() == depth
            {
                tree.nodes[number].list = Some(*list);
                below = longer;
            }
            let node = &tree.nodes[number];
            let shorter = match node.list {
                Some(_) => u32::try_from(number).ok(),
                None => node.shorter,
            };
            let begin = tree.nodes.len();
            for group in below.chunk_by(|(one, _), (other, _)| one[depth] == other[depth]) {
                let ([(first, _)] | [(first, _), ..]) = group else {
                    continue;
                };
                let last = group.last().map_or(*first, |(last, _)| *last);
                let same = first
                    .iter()
                    .zip(last)
                    .take_while(|(one, other)| one == other);
                let length = same.count();
                open.push_back((tree.nodes.len(), group, length));
                tree.add(&first[depth..length], shorter);
            }
            tree.nodes[number].children = Span::new(begin, tree.nodes.len());
        }
        tree
    }

    fn add(&mut self, label: &[u8], shorter: Option<u32>) {
        let begin = self.labels.len();
        self.labels.extend_from_slice(label);
        self.firsts.extend(label.first());
        self.nodes.push(Node {
            label: Span::new(begin, self.labels.len()),
            shorter,
            ..Node::default()
        });
    }

    /// Hands `visit` the list of each prefix of `path`, the longest first.
    pub(super) fn visit(&self, path: &[u8], mut visit: impl FnMut(Span)) {
        let mut next = self.longest(path);
        while let Some(node) = next {
            if let Some(list) = node.list {
                visit(list);
            }
            next = node
                .shorter
                .and_then(|number| self.nodes.get(number as usize));
        }
    }

    /// The last node on the walk along `path`: it, or the shorter ones, are all its prefixes.
    fn longest(&self, mut path: &[u8]) -> Option<&Node> {
        let mut node = self.nodes.first()?;
        while let Some(byte) = path.first() {
            let siblings = self.firsts.get(node.children.range())?;
            let Ok(place) = siblings.binary_search(&fold(*byte)) else {
                break;
            };
            let child = self.nodes.get(node.children.range().start + place)?;
            let label = self.labels.get(child.label.range())?;
            let Some((begin, rest)) = path.split_at_checked(label.len()) else {
                break;
            };
            if !begin
                .iter()
                .zip(label)
                .all(|(one, other)| fold(*one) == *other)
            {
                break;
            }
            (node, path) = (child, rest);
        }
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_lists_of_all_prefixes_are_visited_the_longest_first(
            mut prefixes in prop::collection::vec("[ab/]{0,6}", 0..20),
            path in "[abc/]{0,10}",
        ) {
            prefixes.sort();
            prefixes.dedup();
            let lists = prefixes.iter().zip(0..);
            let lists: Vec<_> = lists
                .map(|(prefix, number)| (prefix.as_bytes(), Span::new(number, number)))
                .collect();
            let mut visited = Vec::new();
            Prefixes::new(&lists).visit(path.as_bytes(), |list| visited.push(list.range().start));
            let mut expected: Vec<usize> = (0..prefixes.len())
                .filter(|number| path.starts_with(&prefixes[*number]))
                .collect();
            expected.sort_by_key(|number| std::cmp::Reverse(prefixes[*number].len()));
            prop_assert_eq!(visited, expected);
        }
    }
}
