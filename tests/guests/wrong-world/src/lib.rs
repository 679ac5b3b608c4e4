//! A component in good order that is no plugin.

#![expect(unsafe_code, reason = "generated bindings")]

wit_bindgen::generate!({ world: "library" });

struct Library;

impl exports::elsewhere::library::arithmetic::Guest for Library {
    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
}

export!(Library);
