//! Marks `enjamb.so` as never to be unmapped: Lua closes its libraries when a state ends, and code that a thread
//! or a thread-local destructor still has to run must not vanish under it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // In a server Lua is there already.
    let lua = ["lua51", "luajit", "lua52", "lua53", "lua54", "lua55"]
        .into_iter()
        .find(|lua| std::env::var_os(format!("CARGO_FEATURE_{}", lua.to_uppercase())).is_some());
    let library = match lua {
        Some("luajit") => "luajit-5.1".to_owned(),
        Some(lua) => lua.replace("lua5", "lua5."),
        None => panic!("which Lua? One of the features lua51, luajit, lua52, lua53, lua54, lua55"),
    };
    println!("cargo:rustc-link-arg-tests=-l{library}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
