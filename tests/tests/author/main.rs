//! What the authors of plugins do, from the first command to a plugin that is served while it is written: the built program in
//! folders of its own, with the compilers of this machine.

mod bench;
mod dev;
mod new;
mod project;
mod two_commands;
