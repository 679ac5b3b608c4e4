//! Doing it. `black_box` keeps the optimiser from proving that a deed has no effect.

use crate::behaviour::{Behaviour, Kind};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tidegate_sdk::lifecycle;
use tidegate_sdk::prelude::*;

const INJECTION: &str = "a\r\nx-injected: b";

/// What needs no message.
pub(crate) fn anywhere(behaviour: Behaviour) -> Result<()> {
    match behaviour.kind {
        Kind::Spin => spin(),
        Kind::Recurse => {
            black_box(recurse(black_box(0)));
            Ok(())
        }
        Kind::Allocate => allocate(),
        Kind::AllocateForever => allocate_forever(),
        Kind::Copy => copy(behaviour.size()),
        Kind::Sleep => {
            std::thread::sleep(Duration::from_millis(behaviour.amount()));
            Ok(())
        }
        Kind::Doze => loop {
            std::thread::sleep(Duration::from_millis(behaviour.amount()));
        },
        Kind::Busy => {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(behaviour.amount()) {
                black_box(());
            }
            Ok(())
        }
        Kind::LogFlood => loop {
            log::info!("and another line");
        },
        Kind::LogGiant => {
            log::info!("{}", String::from_utf8(filler(behaviour.size()))?);
            Ok(())
        }
        Kind::Print => {
            print();
            Ok(())
        }
        Kind::Report => {
            let remaining = Deadline::of_this_call().remaining();
            log::info!("phase {:?}, reason {:?}, {remaining:?} left", lifecycle::phase(), lifecycle::stop_reason());
            Ok(())
        }
        Kind::Tell => Err(format!("phase {:?}, reason {:?}", lifecycle::phase(), lifecycle::stop_reason()).into()),
        Kind::Trap => trap(),
        Kind::Panic => panic!("the hostile plugin panics"),
        Kind::Exit => std::process::exit(3),
        Kind::Error => Err("the hostile plugin returns an error".into()),
        Kind::GiantString => Err(String::from_utf8(giant(behaviour.size()))?.into()),
        Kind::InvalidUtf8 => Err(invalid_utf8().into()),
        Kind::Forward | Kind::Ok => Ok(()),
        other => Err(format!("this hook cannot do {other:?}").into()),
    }
}

/// What is done to a request; false if that is nothing.
pub(crate) fn edit_request(behaviour: Behaviour, request: &mut Request) -> Result<bool> {
    match behaviour.kind {
        Kind::PathInjection => request.set_path("/a HTTP/1.1\r\nx-injected: b").map_err(named)?,
        Kind::UnknownUpstream => request.set_upstream("nowhere").map_err(named)?,
        Kind::ManyNotes => {
            for n in 0..behaviour.amount() {
                request.set_note(&n.to_string(), "x").map_err(named)?;
            }
        }
        Kind::ManyHeaders => {
            for n in 0..behaviour.amount() {
                request.append_header(&format!("x-hostile-{n}"), "x").map_err(named)?;
            }
        }
        Kind::GiantHeader => request.set_header("x-hostile", filler(behaviour.size())).map_err(named)?,
        Kind::HeaderInjection => request.set_header("x-hostile", INJECTION).map_err(named)?,
        Kind::ForbiddenHeader => request.set_header("content-length", "1").map_err(named)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// What is done to a response; false if that is nothing.
pub(crate) fn edit_response(behaviour: Behaviour, response: &mut Response) -> Result<bool> {
    match behaviour.kind {
        Kind::ManyHeaders => {
            for n in 0..behaviour.amount() {
                response.append_header(&format!("x-hostile-{n}"), "x").map_err(named)?;
            }
        }
        Kind::GiantHeader => response.set_header("x-hostile", filler(behaviour.size())).map_err(named)?,
        Kind::HeaderInjection => response.set_header("x-hostile", INJECTION).map_err(named)?,
        Kind::ForbiddenHeader => response.set_header("content-length", "1").map_err(named)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The reply that is made, if one is.
pub(crate) fn reply(behaviour: Behaviour) -> Option<Reply> {
    let reply = Reply::new(200);
    Some(match behaviour.kind {
        Kind::Reply => reply.body("hello from the hostile plugin\n"),
        Kind::ReplyManyHeaders => {
            (0..behaviour.amount()).fold(reply, |reply, n| reply.header(format!("x-hostile-{n}"), "x"))
        }
        Kind::ReplyHeaderInjection => reply.header("x-hostile", INJECTION),
        Kind::ReplyForbiddenHeader => reply.header("transfer-encoding", "chunked"),
        Kind::ReplyStatus => Reply::new(u16::try_from(behaviour.amount()).unwrap_or(u16::MAX)),
        Kind::GiantBody => reply.body(filler(behaviour.size())),
        _ => return None,
    })
}

/// So many bytes, or as many as there is memory for, give or take an eighth.
pub(crate) fn filler(size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut size = size;
    while bytes.try_reserve_exact(size).is_err() {
        size -= size.div_ceil(8);
    }
    bytes.resize(size, b'x');
    bytes
}

/// The same for what is copied on its way to the host: a third of what there is memory for.
fn giant(size: usize) -> Vec<u8> {
    let mut bytes = filler(size.saturating_mul(3));
    bytes.truncate(bytes.len() / 3);
    bytes.shrink_to_fit();
    bytes
}

/// Says which refusal it was, by the name of its variant.
fn named(error: EditError) -> Error {
    format!("refused: {error:?}").into()
}

fn spin() -> ! {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

#[expect(unconditional_recursion, reason = "that is the deed")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth.wrapping_add(1)))).wrapping_add(1)
}

fn allocate() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(vec![1_u8; 1 << 20]);
        black_box(&held);
    }
}

fn allocate_forever() -> ! {
    let mut held = Vec::new();
    loop {
        let mut more = Vec::<u8>::new();
        if more.try_reserve_exact(1 << 20).is_ok() && held.try_reserve(1).is_ok() {
            more.resize(1 << 20, 1);
            held.push(more);
        }
        black_box(&held);
    }
}

fn copy(size: usize) -> ! {
    let from = filler(size);
    let mut to = filler(from.len());
    let length = from.len().min(to.len());
    loop {
        for (to, from) in to.chunks_mut(length).zip(from.chunks(length)) {
            to.copy_from_slice(black_box(from));
        }
        black_box(&mut to);
    }
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    std::process::abort()
}

fn print() {
    println!("the hostile plugin writes to stdout");
    eprintln!("the hostile plugin writes to stderr");
}

#[expect(unsafe_code, reason = "text that is not UTF-8 can be had in no other way")]
fn invalid_utf8() -> String {
    // SAFETY: there is none. The bytes are copied and handed to the host, never looked at as text; what this crate's
    // compiler makes of it is part of the experiment.
    unsafe { String::from_utf8_unchecked(black_box(vec![b'h', b'i', 0xff, 0xfe, 0xc0])) }
}
