// In the place of `ajv-formats`: the validator here (schema-validator.ts) knows the formats itself.

/** Adds nothing. */
export function addFormats(): void {}

// biome-ignore lint/style/noDefaultExport: packages import it by default
export default addFormats;
