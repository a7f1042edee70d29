// The words of this page, in the language of its reader.

import { speech } from "./speech.js";
import en from "./words/en.js";
import zh from "./words/zh.js";

export const { words, said, put, translate, offer, tag, language } = speech({ en, zh });
