//! Lua, for the tests: in a server it is there already.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let lua = ["lua51", "luajit", "lua52", "lua53", "lua54", "lua55"]
        .into_iter()
        .find(|lua| std::env::var_os(format!("CARGO_FEATURE_{}", lua.to_uppercase())).is_some());
    let library = match lua {
        Some("luajit") => "luajit-5.1".to_owned(),
        Some(lua) => lua.replace("lua5", "lua5."),
        None => panic!("which Lua? One of the features lua51, luajit, lua52, lua53, lua54, lua55"),
    };
    println!("cargo:rustc-link-arg-tests=-l{library}");
}
