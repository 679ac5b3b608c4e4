//! A shutdown report as a picture: what a person wants to see at three in the morning, in the terminal or as a page.
//!
//! Both drawings show the same. The verdict comes first, then one time axis for everything: phases, and the instances
//! of plugins under the phase that stopped them. What went wrong is spelled out at the end, where the eye comes to
//! rest. Colour repeats what words and signs say already, so nothing is lost without it.
//!
//! `rows` and `groups` decide what is shown and how much of it, `words` what is said, `axis` where things lie in time;
//! `terminal`, `svg` and `html` only draw. A report may come from elsewhere: none of its texts reaches a drawing
//! without passing `words::printable`, nor a page without `markup::Escaped`.

mod axis;
mod groups;
mod html;
pub(crate) mod markup;
mod rows;
mod svg;
mod terminal;
mod words;

pub use self::html::html;
pub use self::svg::svg;
pub use self::terminal::{DEFAULT_WIDTH, draw};

#[cfg(test)]
mod tests;
