/**
 * Rank 2. Programs of the proxy at the stages of a run: an administrator's own, each given what is known of the run as one line of JSON on its standard input
 * (docs/formats/stage-program.md). How long each may take is bounded, and what it says is foreign.
 *
 * When they run is `flow/`'s to say; that those after a stage come whatever happens is the claim `stagePrograms`.
 */
export { type StageAnswer, parseStageAnswer } from './stage-answer.ts'
export { type StageDocument, stageDocument, stageDocumentSchema } from './stage-document.ts'
export { unfitProgram } from './unfit-program.ts'
export { failureOf, runStageProgram, SKIP, type StageProgram, type StageReport } from './stage-program.ts'
export { markOf, StagePrograms, type StageProgramsDeps } from './stage-programs.ts'
