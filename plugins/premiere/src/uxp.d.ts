/** The part of Adobe's UXP that this plug-in uses; Adobe's own type file for it does not agree with itself. */
declare module "uxp" {
  interface File {
    readonly nativePath: string;
    write(data: ArrayBuffer, options: { format: symbol }): Promise<number>;
  }
  interface Folder {
    readonly nativePath: string;
    createFile(name: string, options: { overwrite: boolean }): Promise<File>;
    getEntry(name: string): Promise<File>;
  }
  export const storage: {
    formats: { binary: symbol };
    localFileSystem: {
      getFolder(): Promise<Folder | null>;
      createPersistentToken(folder: Folder): Promise<string>;
      getEntryForPersistentToken(token: string): Promise<Folder>;
    };
    secureStorage: { getItem(key: string): Promise<Uint8Array | null>; setItem(key: string, value: string): Promise<void> };
  };
}
declare module "premierepro" {
  import type { premierepro } from "@adobe/premierepro";
  const api: premierepro;
  export = api;
}
