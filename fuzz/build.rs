//! In a server Lua is there already; here nobody else brings it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-llua5.4");
}
