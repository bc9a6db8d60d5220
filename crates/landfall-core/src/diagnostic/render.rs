//! Diagnostics as text, in the style of rustc.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Diagnostics, Label, Severity};

/// Renders the findings for a person: code, severity, `file:line:column`, the line, a hint. One empty line separates
/// two findings. The text ends with a newline; it is empty if there are no findings.
#[must_use]
pub fn render_text(diagnostics: &Diagnostics, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for diagnostic in diagnostics {
        if !text.is_empty() {
            text.push('\n');
        }
        let rendered = renderer.render(&[group(diagnostic)]);
        for line in rendered.lines().filter(|line| !is_mark_of_nameless_file(line)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn group(diagnostic: &Diagnostic) -> Group<'_> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()).id(diagnostic.code));
    group = labelled(group, &diagnostic.primary, AnnotationKind::Primary);
    for label in &diagnostic.secondary {
        group = labelled(group, label, AnnotationKind::Context);
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.with_name(Some("hint")).message(help.as_str()));
    }
    group
}

/// Adds the marked line with its location. If masking or cutting moved the mark, the location is printed apart from the
/// line, because the renderer would count the column in the shortened line.
fn labelled<'a>(group: Group<'a>, label: &'a Label, kind: AnnotationKind) -> Group<'a> {
    let location = &label.location;
    let (line, column) = (location.line as usize, location.column as usize);
    let origin = Origin::path(location.file.as_ref()).line(line).char_column(column);
    let Some(excerpt) = &label.excerpt else {
        return group.element(origin);
    };
    let mut annotation = kind.span(byte_offset(&excerpt.line, excerpt.start)..byte_offset(&excerpt.line, excerpt.end));
    if !label.text.is_empty() {
        annotation = annotation.label(label.text.as_str());
    }
    let snippet = Snippet::source(excerpt.line.as_str())
        .line_start(line)
        .annotation(annotation);
    if excerpt.start + 1 == column {
        group.element(snippet.path(location.file.as_ref()))
    } else {
        group.element(origin).element(snippet)
    }
}

/// True for the line `:::`, by which the renderer begins an excerpt whose location is printed apart. A line of the
/// excerpt itself begins with its number or with `|`.
fn is_mark_of_nameless_file(line: &str) -> bool {
    let mut visible = String::new();
    let mut is_escape = false;
    for character in line.chars() {
        match character {
            '\u{1b}' => is_escape = true,
            'm' if is_escape => is_escape = false,
            _ if is_escape => {}
            _ => visible.push(character),
        }
    }
    visible.trim() == ":::"
}

fn byte_offset(line: &str, characters: usize) -> usize {
    line.char_indices()
        .nth(characters)
        .map_or(line.len(), |(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, parse_settings};
    use crate::diagnostic::NamedText;

    #[test]
    fn a_cut_line_has_its_location_once_and_no_empty_one() {
        let filler = "x".repeat(300);
        let profile = format!(
            r#"{{"metadata": {{"name": "shop"}}, "note": "{filler}", "spec": {{"template": {{"packs": [{{"name": "shop", "layer": "addon", "values": "pack: {{content: {{images: [{{image: 'a.example/b:{{{{.spectro.var.x}}}}'}}]}}}}"}}]}}}}}}"#
        );
        let inputs = Inputs {
            profiles: vec![NamedText::new("profile.json", &profile)],
            ..Inputs::default()
        };
        let (_, diagnostics) = parse_settings(&inputs);
        for color in [false, true] {
            let text = render_text(&diagnostics, color);
            assert!(text.contains("profile.json:1:"), "{text}");
            assert!(!text.contains(":::"), "{text}");
        }
    }
}
