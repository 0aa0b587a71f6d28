//! Every function of the header against NULL and structs of every size.
//!
//! The calls are generated from the header, so that a new function is asked as well, and fails here if
//! it does not check. `tests/c/every_function.h` says what is asked.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::host::{Link, ROOT, SCRATCH, compile, expect_code, models};

/// A parameter of a function: its type as C spells it, and its name.
struct Parameter {
    ty: String,
    name: String,
}

/// A function of the header.
struct Function {
    name: String,
    returns_result: bool,
    parameters: Vec<Parameter>,
    /// Its comment, in one line.
    comment: String,
}

impl Parameter {
    fn is_pointer(&self) -> bool {
        self.ty.ends_with('*')
    }

    /// What it points to, without `const`.
    fn target(&self) -> &str {
        let target = self.ty.trim_end_matches('*').trim();
        target.strip_prefix("const ").unwrap_or(target)
    }
}

fn header() -> String {
    fs::read_to_string(Path::new(ROOT).join("include/ddpm.h")).unwrap()
}

fn functions(header: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    let (mut comment, mut declaration) = (String::new(), String::new());
    for line in header.lines() {
        if !declaration.is_empty() || line.starts_with("DDPM_API") {
            declaration += line.trim();
            declaration += " ";
            if line.ends_with(';') {
                functions.push(function(&declaration, &comment));
                declaration.clear();
            }
        } else if let Some(text) = line.strip_prefix("//") {
            comment += text;
        } else {
            comment.clear();
        }
    }
    functions
}

/// `DDPM_API <type> <name>(<type> <name>, ...);`
fn function(declaration: &str, comment: &str) -> Function {
    let (head, parameters) = declaration.split_once('(').unwrap();
    let typed = |text: &str| {
        let at = text.rfind([' ', '*']).unwrap() + 1;
        let ty: Vec<&str> = text[..at].split_whitespace().collect();
        (ty.join(" "), text[at..].to_owned())
    };
    let (returns, name) = typed(head.trim());
    let parameters = parameters.trim().trim_end_matches(");").split(',').map(str::trim);
    let parameters = parameters.filter(|&text| text != "void").map(|text| {
        let (ty, name) = typed(text);
        Parameter { ty, name }
    });
    Function {
        name,
        returns_result: returns.ends_with("ddpm_result"),
        parameters: parameters.collect(),
        comment: comment.to_owned(),
    }
}

/// Whether it is one of the structs that have a `struct_size`.
fn is_struct(header: &str, target: &str) -> bool {
    header.contains(&format!("#define {}_INIT", target.to_uppercase()))
}

/// A C function for each pointer of `function`, and a row of the table for each.
fn calls(header: &str, function: &Function, code: &mut String, rows: &mut String) {
    for asked in function.parameters.iter().filter(|parameter| parameter.is_pointer()) {
        let id = format!("{}_{}", function.name, asked.name);
        // Set up, the arguments, and what is to be done with what was made.
        let (mut before, mut arguments, mut after) = (String::new(), Vec::new(), String::new());
        for parameter in &function.parameters {
            let Parameter { ty, name } = parameter;
            let target = parameter.target();
            let handle = ["ddpm_engine", "ddpm_stream"].contains(&target);
            if name == &asked.name {
                arguments.push(format!("({ty})pointer"));
            } else if handle {
                // Both pointers and pointers to pointers: `ddpm_engine *`, `ddpm_engine **`.
                if ty.ends_with("**") {
                    writeln!(before, "    {target} *{name} = NULL;").unwrap();
                    write!(after, "    if (found == DDPM_OK) {{\n        CHECK_OK({target}_destroy({name}));\n    }} else {{\n        CHECK({name} == NULL);\n    }}\n").unwrap();
                    arguments.push(format!("&{name}"));
                } else {
                    arguments.push(target.replace("ddpm", "the"));
                }
            } else if is_struct(header, target) {
                writeln!(before, "    {target} {name} = good_{target};").unwrap();
                arguments.push(format!("&{name}"));
            } else if target == "char" && !ty.ends_with("**") {
                arguments.push("\"ddim\"".to_owned());
            } else if parameter.is_pointer() {
                arguments.push(format!("({ty})(void *)buffer.bytes"));
            } else if name.contains("size") {
                arguments.push("BUFFER".to_owned());
            } else if name.contains("count") {
                arguments.push("16".to_owned());
            } else {
                arguments.push("0".to_owned());
            }
        }
        let arguments = arguments.join(", ");
        write!(
            code,
            "static ddpm_result call_{id}(void *pointer) {{\n{before}    ddpm_result found = {}({arguments});\n{after}    return found;\n}}\n\n",
            function.name
        )
        .unwrap();
        let target = asked.target();
        let (size, alignment, good) = if is_struct(header, target) {
            let alignment = format!("offsetof(struct {{ char c; {target} t; }}, t)");
            (format!("sizeof({target})"), alignment, format!("&good_{target}"))
        } else {
            ("0".to_owned(), "0".to_owned(), "NULL".to_owned())
        };
        let may_be_null = function.comment.contains(&format!("`{}` may be NULL", asked.name));
        writeln!(
            rows,
            "    {{\"{}\", \"{}\", call_{id}, {size}, {alignment}, {good}, {}, {}}},",
            function.name,
            asked.name,
            i32::from(asked.ty.starts_with("const ")),
            i32::from(may_be_null)
        )
        .unwrap();
    }
}

fn program(header: &str) -> String {
    let mut code =
        "#define _DEFAULT_SOURCE\n#include <stddef.h>\n#include \"every_function.h\"\n\n"
            .to_owned();
    let macros = header.lines().filter_map(|line| line.strip_prefix("#define DDPM_"));
    let structs: Vec<&str> =
        macros.filter_map(|line| line.split_whitespace().next()?.strip_suffix("_INIT")).collect();
    assert!(structs.contains(&"STREAM_DESC"), "{structs:?}");
    let mut main = String::new();
    for name in structs {
        let lower = name.to_lowercase();
        writeln!(code, "static ddpm_{lower} good_ddpm_{lower} = DDPM_{name}_INIT;").unwrap();
    }
    code += "\n";
    let mut rows = String::new();
    for function in functions(header) {
        let has_pointers = function.parameters.iter().any(Parameter::is_pointer);
        assert!(
            function.returns_result || !has_pointers,
            "{}: takes a pointer and cannot refuse it",
            function.name
        );
        calls(header, &function, &mut code, &mut rows);
    }
    main += "int main(int argc, char **argv) {\n    CHECK(argc > 1);\n";
    main += "    good_ddpm_engine_desc.model_path = path_in(argv[1], \"lin.onnx\");\n";
    main += "    good_ddpm_engine_desc.provider = DDPM_PROVIDER_CPU;\n";
    main += "    good_ddpm_engine_desc.cuda = &good_ddpm_cuda_desc;\n";
    main += "    good_ddpm_playback_desc.duration = 1.0;\n";
    main += "    ask_every_function(argv[1], calls, sizeof calls / sizeof calls[0]);\n    return 0;\n}\n";
    format!("{code}static const call calls[] = {{\n{rows}}};\n\n{main}")
}

#[test]
fn every_function_refuses_null_and_structs_of_another_size() {
    let header = header();
    let names: Vec<String> = functions(&header).into_iter().map(|f| f.name).collect();
    assert!(names.iter().any(|name| name == "ddpm_stream_copy_frame"), "{names:?}");
    let source = Path::new(SCRATCH).join("c_api_every_function.c");
    fs::write(&source, program(&header)).unwrap();
    let program = compile("every_function", source.to_str().unwrap(), Link::Shared, &[]);
    expect_code(Command::new(program).arg(models()), 0);
}
