/** What was looked at, and what was found wrong. Each look is one passed or failed check. */
export class Findings {
  passed = 0
  readonly failed: string[] = []

  /** One check: it fails once for each sentence. */
  check(sentences: readonly string[]): void {
    if (sentences.length === 0) this.passed++
    else this.failed.push(...sentences)
  }

  /** One check of a fact. */
  expect(fact: boolean, sentence: () => string): void {
    this.check(fact ? [] : [sentence()])
  }
}
