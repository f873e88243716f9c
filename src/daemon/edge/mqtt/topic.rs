//! Topic names, filters and the tree of subscriptions. Pure: the exchange calls it under its lock, so it never waits,
//! never allocates by what a stranger says beyond its own limits, and gives back every node that nobody needs any more.

use std::collections::HashMap;

/// Levels that a filter may have; deeper ones are refused, so that a walk of the tree stays shallow.
const DEEPEST: usize = 64;

/// Whether this may stand in a PUBLISH: not empty, no wildcard, no NUL.
pub(super) fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= usize::from(u16::MAX) && !topic.contains(['+', '#', '\0'])
}

/// A subscription's filter, taken apart: the group of `$share/group/filter`, and the filter itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter<'a> {
    pub(super) group: Option<&'a str>,
    pub(super) path: &'a str,
}

impl<'a> Filter<'a> {
    /// Reads what stands in a SUBSCRIBE; `None` when MQTT forbids it or it has too many levels.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (group, path) = match text.strip_prefix("$share/") {
            Some(rest) => {
                let (group, path) = rest.split_once('/')?;
                (Some(group), path)
            }
            None => (None, text),
        };
        if group.is_some_and(|name| name.is_empty() || name.contains(['+', '#'])) {
            return None;
        }
        (is_filter(path)).then_some(Filter { group, path })
    }
}

fn is_filter(path: &str) -> bool {
    if path.is_empty() || path.contains('\0') {
        return false;
    }
    let mut levels = 0;
    let mut ended = false;
    for level in path.split('/') {
        if ended || (level.len() > 1 && level.contains(['+', '#'])) {
            return false;
        }
        ended = level == "#";
        levels += 1;
    }
    levels <= DEEPEST
}

/// Whether the filter covers the topic. Wildcards in the first level do not cover topics that begin with `$`.
pub(super) fn covers(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        if part == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if part == "+" || part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Subscriptions by filter, level by level.
pub(super) struct Tree<S> {
    root: Node<S>,
    count: usize,
}

struct Node<S> {
    here: Vec<S>,
    below: HashMap<Box<str>, Node<S>>,
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Node { here: Vec::new(), below: HashMap::new() }
    }
}

impl<S> Default for Tree<S> {
    fn default() -> Self {
        Tree { root: Node::default(), count: 0 }
    }
}

impl<S> Tree<S> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Puts a subscription under a checked filter in the place of those that `same` names; says whether it is new.
    pub(super) fn insert(&mut self, path: &str, subscription: S, same: impl Fn(&S) -> bool) -> bool {
        let mut node = &mut self.root;
        for level in path.split('/') {
            node = node.below.entry(level.into()).or_default();
        }
        let before = node.here.len();
        node.here.retain(|held| !same(held));
        let new = node.here.len() == before;
        node.here.push(subscription);
        self.count += usize::from(new);
        new
    }

    /// Takes subscriptions away and with them the nodes that nobody needs; says whether there was one.
    pub(super) fn remove(&mut self, path: &str, gone: impl Fn(&S) -> bool) -> bool {
        let levels: Vec<&str> = path.split('/').collect();
        let removed = remove_below(&mut self.root, &levels, &gone);
        self.count -= removed;
        removed > 0
    }

    /// Visits the subscriptions whose filter covers the topic.
    pub(super) fn visit<'t>(&'t self, topic: &str, found: &mut impl FnMut(&'t S)) {
        walk(&self.root, Some(topic), !topic.starts_with('$'), found);
    }
}

fn remove_below<S>(node: &mut Node<S>, levels: &[&str], gone: &impl Fn(&S) -> bool) -> usize {
    let Some((level, rest)) = levels.split_first() else {
        let before = node.here.len();
        node.here.retain(|held| !gone(held));
        return before - node.here.len();
    };
    let Some(child) = node.below.get_mut(*level) else { return 0 };
    let removed = remove_below(child, rest, gone);
    if child.here.is_empty() && child.below.is_empty() {
        node.below.remove(*level);
        if node.below.is_empty() {
            node.below.shrink_to_fit();
        }
    }
    removed
}

/// `rest` is what of the topic is not matched yet; `None` when all of it is. The depth of the tree bounds the depth of
/// the recursion, not the length of the topic.
fn walk<'t, S>(node: &'t Node<S>, rest: Option<&str>, wildcards: bool, found: &mut impl FnMut(&'t S)) {
    if wildcards && let Some(all) = node.below.get("#") {
        all.here.iter().for_each(&mut *found);
    }
    let Some(rest) = rest else {
        node.here.iter().for_each(&mut *found);
        return;
    };
    let (level, rest) = rest.split_once('/').map_or((rest, None), |(level, rest)| (level, Some(rest)));
    if wildcards && let Some(any) = node.below.get("+") {
        walk(any, rest, true, found);
    }
    if let Some(named) = node.below.get(level) {
        walk(named, rest, true, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_follow_the_standard() {
        for good in
            ["a", "/", "+", "#", "a/+/b/#", "$hw/events/device/+/+/twin/+", "温度/#", "$share/g/a/#", "+/"]
        {
            assert!(Filter::parse(good).is_some(), "{good}");
        }
        let deep = "a/".repeat(64) + "a";
        for bad in
            ["", "a+", "a/#/b", "##", "a/b#", "$share/g", "$share//a", "$share/+/a", "a\0b", deep.as_str()]
        {
            assert!(Filter::parse(bad).is_none(), "{bad}");
        }
        assert!(!is_topic("a/+") && !is_topic("") && is_topic("温度/1") && is_topic("$hw/x"));
    }

    #[test]
    fn wildcards_do_not_reach_dollar_topics() {
        assert!(!covers("#", "$hw/x") && !covers("+/x", "$hw/x") && covers("$hw/#", "$hw/x"));
        assert!(covers("a/#", "a") && covers("+/+", "/a") && !covers("+", "/a") && !covers("a/b", "a"));
    }

    #[test]
    fn removed_filters_leave_no_node() {
        let mut tree = Tree::default();
        for n in 0..1000 {
            tree.insert(&format!("a/{n}/+"), n, |held| *held == n);
        }
        for n in 0..1000 {
            assert!(tree.remove(&format!("a/{n}/+"), |held| *held == n));
        }
        assert!(tree.root.below.is_empty() && tree.len() == 0);
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_the_plain_rule(
            filters in prop::collection::vec("(\\$?[ab+]?)(/[ab+]){0,3}(/#)?", 1..20),
            topic in "\\$?[ab]?(/[ab]?){0,4}",
        ) {
            prop_assume!(is_topic(&topic));
            let mut tree = Tree::default();
            let mut held = Vec::new();
            for filter in filters.iter().filter(|f| is_filter(f)) {
                tree.insert(filter, filter.clone(), |other| other == filter);
                held.push(filter.clone());
            }
            held.sort();
            held.dedup();
            held.retain(|filter| covers(filter, &topic));
            let mut found = Vec::new();
            tree.visit(&topic, &mut |filter: &String| found.push(filter.clone()));
            found.sort();
            prop_assert_eq!(found, held);
        }
    }
}
