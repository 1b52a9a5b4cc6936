// Tells where two scripts differ in more than comments and space: `same_program.cjs TYPESCRIPT A B [A B]…`.

const { readFileSync } = require("node:fs");

const [, , typescript, ...files] = process.argv;
const ts = require(typescript);

/** All tokens with their lines, comments left out. */
function tokens(path) {
	const file = ts.createSourceFile("script.js", readFileSync(path, "utf8"), ts.ScriptTarget.Latest, false);
	const found = [];
	const visit = (node) => {
		if (ts.isJSDoc(node)) return;
		const children = node.getChildren(file);
		const { line } = file.getLineAndCharacterOfPosition(node.getStart(file));
		if (!children.length) found.push(`line ${line + 1}: ${node.getText(file)}`);
		children.forEach(visit);
	};
	visit(file);
	return found;
}

while (files.length) {
	const [path, other] = files.splice(0, 2);
	const [before, after] = [tokens(path), tokens(other)];
	const at = before.findIndex((token, at) => token !== after[at]);
	if (at >= 0 || before.length !== after.length) {
		console.log(`${path}: ${before[at] ?? "its end"}, but ${after[at] ?? "more"}`);
		process.exitCode = 1;
	}
}
