/** Something the user can do something about. Its message says what. */
export class Problem extends Error {}
