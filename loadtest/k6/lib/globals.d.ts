// What k6 gives to every script, and its types leave out.

declare const console: Record<'debug' | 'log' | 'info' | 'warn' | 'error', (...said: unknown[]) => void>;
