//! A flame graph of fuel: each box is a function, as wide as the fuel that it and what it calls have burned.
//!
//! Drawn here rather than by a crate: the one that everybody uses has a licence that `deny.toml` does not let in. The picture
//! needs no script; a browser shows the name of a box and its figures when the mouse is on it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tidegate_testing::Sample;

use crate::stop::timeline::markup::Escaped;

const WIDTH: f64 = 1_200.0;
const ROW: f64 = 18.0;
const MARGIN: f64 = 10.0;
/// For the title.
const TOP: f64 = 34.0;
/// Narrower boxes are left out.
const NARROWEST: f64 = 0.2;
/// Width of a letter, about.
const LETTER: f64 = 6.6;

/// A function in one place of the call tree.
#[derive(Debug, Default)]
struct Node {
    /// Fuel of it and of all that it calls.
    fuel: u64,
    callees: BTreeMap<String, Node>,
}

impl Node {
    fn add(&mut self, frames: &mut dyn Iterator<Item = &str>, fuel: u64) {
        self.fuel += fuel;
        if let Some(frame) = frames.next() {
            self.callees.entry(frame.to_owned()).or_default().add(frames, fuel);
        }
    }

    fn depth(&self) -> usize {
        1 + self.callees.values().map(Node::depth).max().unwrap_or(0)
    }
}

/// Draw it, as an SVG document.
pub(super) fn draw(title: &str, samples: &[Sample]) -> String {
    let mut root = Node::default();
    for sample in samples {
        let frames = std::iter::once(sample.hook.as_str()).chain(sample.stack.iter().map(String::as_str));
        root.add(&mut frames.into_iter(), sample.fuel);
    }
    let height = TOP + (root.depth() as f64) * ROW + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"ui-monospace, monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"21\" font-size=\"14\">{}</text>\n",
        Escaped(title)
    );
    if samples.is_empty() {
        let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"46\">The calls were too short for a single sample.</text>");
    } else {
        let place = Place { x: MARGIN, width: WIDTH - 2.0 * MARGIN, y: height - MARGIN - ROW };
        boxes(&mut svg, "all", &root, root.fuel, place);
    }
    svg.push_str("</svg>\n");
    svg
}

#[derive(Clone, Copy)]
struct Place {
    x: f64,
    width: f64,
    y: f64,
}

fn boxes(svg: &mut String, name: &str, node: &Node, all: u64, place: Place) {
    let Place { x, width, y } = place;
    if width < NARROWEST {
        return;
    }
    let percent = node.fuel as f64 * 100.0 / all.max(1) as f64;
    let _ = write!(
        svg,
        "<g><title>{}\n{} fuel, {percent:.1} %</title>\
         <rect x=\"{x:.2}\" y=\"{y}\" width=\"{:.2}\" height=\"{}\" rx=\"2\" fill=\"{}\"/>",
        Escaped(name),
        node.fuel,
        (width - 0.5).max(NARROWEST),
        ROW - 1.0,
        colour(name)
    );
    let letters = (width - 6.0) / LETTER;
    if letters >= 3.0 {
        let room = letters as usize;
        let fits = name.chars().count() <= room;
        let shown: String = if fits {
            name.to_owned()
        } else {
            name.chars().take(room.saturating_sub(2)).chain("..".chars()).collect()
        };
        let _ = write!(svg, "<text x=\"{:.2}\" y=\"{}\">{}</text>", x + 3.0, y + 13.0, Escaped(&shown));
    }
    svg.push_str("</g>\n");
    let mut x = x;
    for (name, callee) in &node.callees {
        let width = width * callee.fuel as f64 / node.fuel.max(1) as f64;
        boxes(svg, name, callee, all, Place { x, width, y: y - ROW });
        x += width;
    }
}

/// Warm, and the same for a name each time.
fn colour(name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let hash = hasher.finish();
    format!("hsl({},{}%,{}%)", 8 + hash % 42, 70 + (hash >> 8) % 25, 66 + (hash >> 16) % 12)
}

#[cfg(test)]
mod tests {
    use tidegate_testing::Hook;

    use super::*;

    #[test]
    fn callers_carry_what_they_call() {
        let sample = |stack: &[&str], fuel| Sample {
            hook: Hook::OnRequest,
            stack: stack.iter().map(|frame| (*frame).to_owned()).collect(),
            fuel,
        };
        let svg = draw("a <plugin>", &[sample(&["main", "parse<T>"], 30), sample(&["main", "write"], 10)]);
        assert!(svg.contains("a &lt;plugin&gt;") && svg.contains("parse&lt;T&gt;\n30 fuel, 75.0 %"), "{svg}");
        assert!(svg.contains("<title>on-request\n40 fuel, 100.0 %"), "{svg}");
        assert!(draw("none", &[]).contains("too short"));
    }
}
