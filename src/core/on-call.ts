/**
 * A function that `load` brings from its module when it is called, so that whoever names it in a room's `index.ts` loads it for nobody else. Of rooms of which every command needs
 * another part; what is called for each block is imported as usual. Called again it costs one turn of the event loop: Node keeps what it has loaded.
 */
export const onCall =
  <Args extends readonly unknown[], Result>(
    load: () => Promise<(...args: Args) => Result | Promise<Result>>,
  ): ((...args: Args) => Promise<Result>) =>
  async (...args) =>
    (await load())(...args)
