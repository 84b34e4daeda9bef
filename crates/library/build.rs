//! Marks `enjamb.so` as never to be unmapped: Lua closes its libraries when a state ends, and code that a thread
//! or a thread-local destructor still has to run must not vanish under it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
