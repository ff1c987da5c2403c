package main

// sideFile copies what a file has besides its content, if the user wants it.
func (k *copier) sideFile(in *folder, from, to string) {
}
